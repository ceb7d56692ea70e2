// The looks that all parts share: Home Assistant's variables only, so that themes, dark mode and
// density come with them.

import { css } from "lit";

export const shared = css`
  :host {
    /* Home Assistant's colors are too pale for text on its own backgrounds. */
    --page-accent: color-mix(in srgb, var(--primary-color), var(--primary-text-color) 40%);
    --page-error: color-mix(in srgb, var(--error-color), var(--primary-text-color) 35%);
    --page-warning: color-mix(in srgb, var(--warning-color), var(--primary-text-color) 55%);
    --page-success: color-mix(in srgb, var(--success-color), var(--primary-text-color) 45%);
    /* Away from the color of the text on it, whichever that is. */
    --page-button: color-mix(
      in srgb,
      var(--primary-color),
      oklch(from var(--text-primary-color) calc(1 - l) 0 0) 30%
    );
    /* The height of what stays in sight on top. */
    --page-header: 100px;
    color: var(--primary-text-color);
    font-family: var(--ha-font-family-body, var(--paper-font-body1_-_font-family, sans-serif));
    -webkit-font-smoothing: antialiased;
  }
  *,
  *::before {
    box-sizing: border-box;
  }
  h1,
  h2,
  h3,
  p {
    margin: 0;
  }
  h2 {
    font-size: 1.15rem;
    font-weight: 500;
    margin-block: 24px 8px;
  }
  h3 {
    font-size: 1rem;
    font-weight: 500;
  }
  a {
    color: var(--page-accent);
  }
  button,
  .button {
    font: inherit;
    font-size: 0.9rem;
    font-weight: 500;
    min-height: 40px;
    padding: 0 14px;
    border-radius: 20px;
    border: 1px solid var(--divider-color);
    background: var(--card-background-color);
    color: var(--primary-text-color);
    cursor: pointer;
    text-decoration: none;
    display: inline-flex;
    align-items: center;
    justify-content: center;
    gap: 6px;
    white-space: nowrap;
  }
  button.primary {
    background: var(--page-button);
    border-color: var(--page-button);
    color: var(--text-primary-color);
  }
  button.danger {
    color: var(--page-error);
  }
  button.plain {
    border-color: transparent;
    background: none;
  }
  button:hover:not(:disabled),
  .button:hover {
    filter: brightness(0.95);
  }
  button:disabled {
    opacity: 0.55;
    cursor: default;
  }
  :focus-visible {
    outline: 2px solid var(--primary-color);
    outline-offset: 2px;
  }
  input,
  select {
    font: inherit;
    min-height: 40px;
    padding: 0 12px;
    border-radius: 8px;
    border: 1px solid var(--divider-color);
    background: var(--card-background-color);
    color: var(--primary-text-color);
  }
  input[type="checkbox"] {
    min-height: 0;
    width: 20px;
    height: 20px;
    accent-color: var(--primary-color);
    flex: none;
  }
  ul {
    list-style: none;
    margin: 0;
    padding: 0;
  }
  .card {
    background: var(--ha-card-background, var(--card-background-color));
    border: 1px solid var(--divider-color);
    border-radius: var(--ha-card-border-radius, 12px);
    overflow: clip;
  }
  .card > li + li {
    border-block-start: 1px solid var(--divider-color);
  }
  .muted {
    color: var(--secondary-text-color);
    font-size: 0.9rem;
  }
  .badge {
    display: inline-block;
    border-radius: 10px;
    padding: 1px 9px;
    font-size: 0.8rem;
    font-weight: 500;
    border: 1px solid currentColor;
    white-space: nowrap;
  }
  .badge.failed {
    color: var(--page-error);
  }
  .badge.changed,
  .badge.update {
    color: var(--page-accent);
  }
  .row {
    display: flex;
    flex-wrap: wrap;
    gap: 8px;
    align-items: center;
  }
  .badge.waiting {
    border-style: dashed;
  }
  .badge.completed {
    color: var(--page-success);
  }
  .grow {
    flex: 1;
    min-width: 0;
  }
  .notice {
    padding: 12px 16px;
    border-radius: 8px;
    border-inline-start: 4px solid var(--error-color);
    background: var(--card-background-color);
    margin-block: 12px;
    overflow-wrap: anywhere;
  }
  .notice.info {
    border-color: var(--primary-color);
  }
  .hidden {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
  }
`;
