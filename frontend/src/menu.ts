// A button with a menu, as browsers know them: arrow keys, Home, End, the first letter, Escape.

import { LitElement, css, html, nothing, type TemplateResult } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";

import { navigate } from "./element";
import { shared } from "./styles";

export interface MenuItem {
  label: string;
  /** What is done; else it leads to ``href``. */
  act?: () => void;
  href?: string;
  disabled?: boolean;
}

const GAP = 4;

@customElement("esphome-offload-menu")
export class OffloadMenu extends LitElement {
  @property() label = "";
  @property({ attribute: false }) items: MenuItem[] = [];
  @state() private open = false;
  @query("button.opens") private button!: HTMLButtonElement;
  @query("[popover]") private list!: HTMLElement;

  private readonly close = (event?: Event): void => {
    if (this.open && !(event?.target instanceof Node && this.list.contains(event.target))) {
      this.list.hidePopover();
    }
  };

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.unwatch();
  }

  protected override render(): TemplateResult {
    return html`<button
        class="plain opens"
        aria-haspopup="menu"
        aria-expanded=${this.open}
        aria-label=${this.label}
        title=${this.label}
        @click=${this.show}
        @keydown=${this.opened}
      >
        <span aria-hidden="true">⋮</span>
      </button>
      <div
        popover
        role="menu"
        aria-label=${this.label}
        @toggle=${this.toggled}
        @keydown=${this.moved}
      >
        ${this.open ? this.items.map((item) => this.item(item)) : nothing}
      </div>`;
  }

  private item(item: MenuItem): TemplateResult {
    return item.href
      ? html`<a
          role="menuitem"
          tabindex="-1"
          href=${item.href}
          @click=${(event: MouseEvent) => this.follow(event, item.href!)}
          >${item.label}</a
        >`
      : html`<button
          role="menuitem"
          tabindex="-1"
          aria-disabled=${item.disabled ? "true" : nothing}
          @click=${() => this.chosen(item)}
        >
          ${item.label}
        </button>`;
  }

  private follow(event: MouseEvent, href: string): void {
    this.leave();
    if (event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    navigate(href);
  }

  private chosen(item: MenuItem): void {
    if (item.disabled) return;
    this.leave();
    item.act?.();
  }

  private async show(): Promise<void> {
    if (this.open) {
      this.list.hidePopover();
      return;
    }
    this.open = true;
    await this.updateComplete;
    this.list.showPopover();
    this.place();
    this.entries[0]?.focus();
  }

  /** Below the button, or above it where there is more room; never beyond the edge of the window. */
  private place(): void {
    const at = this.button.getBoundingClientRect();
    const { width, height } = this.list.getBoundingClientRect();
    const rtl = getComputedStyle(this).direction === "rtl";
    const left = rtl ? at.left : at.right - width;
    const below = at.bottom + GAP;
    const top = below + height <= innerHeight ? below : Math.max(GAP, at.top - GAP - height);
    this.list.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`;
    this.list.style.top = `${top}px`;
  }

  private toggled(event: ToggleEvent): void {
    this.open = event.newState === "open";
    this.unwatch();
    if (!this.open) return;
    addEventListener("scroll", this.close, { capture: true });
    addEventListener("resize", this.close);
  }

  /** Close, with the focus where it was before: a dialog returns it there as well. */
  private leave(): void {
    this.button.focus();
    this.list.hidePopover();
  }

  private unwatch(): void {
    removeEventListener("scroll", this.close, { capture: true });
    removeEventListener("resize", this.close);
  }

  private get entries(): HTMLElement[] {
    return [...this.renderRoot.querySelectorAll<HTMLElement>("[role=menuitem]")];
  }

  private opened(event: KeyboardEvent): void {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    if (!this.open) void this.show();
  }

  private moved(event: KeyboardEvent): void {
    const { entries } = this;
    const at = entries.indexOf(this.shadowRoot?.activeElement as HTMLElement);
    let to: number | undefined;
    if (event.key === "ArrowDown") to = (at + 1) % entries.length;
    else if (event.key === "ArrowUp") to = (at - 1 + entries.length) % entries.length;
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = entries.length - 1;
    else if (event.key === "Tab" || event.key === "Escape") this.leave();
    else if (event.key.length === 1 && event.key !== " ") {
      const rest = [...entries.slice(at + 1), ...entries.slice(0, at + 1)];
      const key = event.key.toLowerCase();
      const found = rest.find((each) => each.textContent?.trim().toLowerCase().startsWith(key));
      to = found && entries.indexOf(found);
    }
    if (to === undefined) return;
    event.preventDefault();
    entries[to]?.focus();
  }

  static override styles = [
    shared,
    css`
      .opens {
        min-width: 40px;
        padding-inline: 8px;
        font-size: 1.2rem;
      }
      [popover] {
        position: fixed;
        inset: auto;
        margin: 0;
        padding: 6px 0;
        border: 1px solid var(--divider-color);
        border-radius: 12px;
        background: var(--card-background-color);
        color: inherit;
        box-shadow: var(--ha-box-shadow-l, var(--ha-card-box-shadow));
        min-width: 200px;
        max-width: calc(100vw - 16px);
        max-height: calc(100vh - 16px);
        overflow: auto;
      }
      [role="menuitem"] {
        display: flex;
        justify-content: flex-start;
        align-items: center;
        width: 100%;
        min-height: 44px;
        padding-inline: 16px;
        border: none;
        border-radius: 0;
        color: inherit;
        text-align: start;
        text-decoration: none;
        font-size: 0.95rem;
        font-weight: 400;
        white-space: normal;
      }
      [role="menuitem"]:hover,
      [role="menuitem"]:focus {
        background: var(--secondary-background-color);
      }
      [role="menuitem"]:focus-visible {
        outline-offset: -2px;
      }
      [aria-disabled] {
        opacity: 0.55;
        cursor: default;
      }
    `,
  ];
}
