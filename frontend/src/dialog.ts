// A dialog: the browser's own, which keeps the focus inside and closes with Escape.

import { LitElement, css, html, type TemplateResult } from "lit";
import { customElement, property, query } from "lit/decorators.js";

import { shared } from "./styles";

@customElement("esphome-offload-dialog")
export class OffloadDialog extends LitElement {
  @property() heading = "";
  @property() closeLabel = "";
  @query("dialog") private dialog!: HTMLDialogElement;

  protected override firstUpdated(): void {
    this.dialog.showModal();
  }

  protected override render(): TemplateResult {
    return html`<dialog aria-labelledby="heading" @close=${this.closed} @click=${this.outside}>
      <div class="content">
        <div class="row">
          <h2 id="heading">${this.heading}</h2>
          <button class="plain" @click=${() => this.dialog.close()}>${this.closeLabel}</button>
        </div>
        <slot></slot>
      </div>
    </dialog>`;
  }

  private closed(): void {
    this.dispatchEvent(new CustomEvent("closed"));
  }

  /** A click beside the content is one on the dialog itself. */
  private outside(event: MouseEvent): void {
    if (event.target === this.dialog) this.dialog.close();
  }

  static override styles = [
    shared,
    css`
      dialog {
        border: none;
        padding: 0;
        border-radius: var(--ha-card-border-radius, 12px);
        background: var(--card-background-color);
        color: var(--primary-text-color);
        width: min(480px, calc(100vw - 32px));
        max-height: calc(100vh - 64px);
      }
      dialog::backdrop {
        background: var(--mdc-dialog-scrim-color, none);
        backdrop-filter: var(--ha-dialog-scrim-backdrop-filter, brightness(68%));
      }
      .content {
        padding: 16px;
      }
      .row {
        flex-wrap: nowrap;
      }
      h2 {
        flex: 1;
        margin: 0;
        overflow-wrap: anywhere;
      }
    `,
  ];
}
