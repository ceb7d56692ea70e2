// The page: header, tabs, and the part that the URL names. Home Assistant makes the element anew
// each time a person comes back to it, so what matters is in the URL.

import { LitElement, css, html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";

import "./builders";
import "./devices";
import "./guest-build";
import "./job";
import "./jobs";
import { PAGE, follow, isAnother } from "./element";
import { Store } from "./store";
import { shared } from "./styles";
import { counted, isAnswer, textsOf } from "./texts";
import { isOver, type HomeAssistant, type Route } from "./types";

const TEXTS_RETRY = 3000;

const TABS = ["devices", "jobs", "builders"] as const;
const TAB_OF: Record<string, string> = { job: "jobs", guest: "builders" };

@customElement("esphome-offload-panel")
export class OffloadPanel extends LitElement {
  @property({ attribute: false, hasChanged: isAnother }) hass!: HomeAssistant;
  @property({ type: Boolean }) narrow = false;
  @property({ attribute: false }) route?: Route;

  @state() private revision = 0;
  @state() private ready = false;
  @state() private errors: string[] = [];
  @state() private offline = false;

  private readonly store = new Store(() => (this.revision += 1));
  private connection?: HomeAssistant["connection"];
  private language = "";
  private textsTimer?: ReturnType<typeof setTimeout>;
  private subscribed = false;

  private readonly connected = (): void => {
    this.offline = false;
    if (!this.subscribed) this.startStore();
  };
  private readonly lost = (): boolean => (this.offline = true);

  override connectedCallback(): void {
    super.connectedCallback();
    if (!this.connection) return;
    this.subscribe(this.connection);
    if (!this.ready) void this.loadTexts();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.store.stop();
    clearTimeout(this.textsTimer);
    this.connection?.removeEventListener("ready", this.connected);
    this.connection?.removeEventListener("disconnected", this.lost);
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (!changed.has("hass") || !this.hass) return;
    if (this.connection === undefined) {
      this.connection = this.hass.connection;
      this.subscribe(this.connection);
    }
    if (this.language !== this.hass.language) {
      this.language = this.hass.language;
      void this.loadTexts();
    }
  }

  /** Tries again until it succeeds: without texts there is nothing to show. */
  private async loadTexts(): Promise<void> {
    clearTimeout(this.textsTimer);
    try {
      await this.hass.loadBackendTranslation("config_panel", "esphome_offload");
      this.ready = true;
    } catch {
      this.textsTimer = setTimeout(() => void this.loadTexts(), TEXTS_RETRY);
    }
  }

  private subscribe(connection: HomeAssistant["connection"]): void {
    connection.addEventListener("ready", this.connected);
    connection.addEventListener("disconnected", this.lost);
    this.startStore();
  }

  private startStore(): void {
    this.subscribed = true;
    this.store.start(this.hass).catch((error: unknown) => {
      if (isAnswer(error)) this.showError(error.message);
      // The connection was lost before the answer: both are asked again when it is back.
      else {
        this.store.stop();
        this.subscribed = false;
      }
    });
  }

  /** All are shown until they are closed: what is done for several devices can fail for each. */
  private showError(error: string): void {
    this.errors = [...this.errors.filter((each) => each !== error), error];
  }

  private get path(): string[] {
    return (this.route?.path ?? "").split("/").filter(Boolean);
  }

  protected override render(): TemplateResult | typeof nothing {
    if (!this.hass || !this.ready) return nothing;
    const text = textsOf(this.hass);
    const [section = "devices"] = this.path;
    const active = [...this.store.jobs.values()].filter((job) => !isOver(job)).length;
    return html`
      <header>
        <div class="top">
          ${this.narrow
            ? html`<button class="plain menu" aria-label=${text("menu")} @click=${this.menu}>
                <span aria-hidden="true">☰</span>
              </button>`
            : nothing}
          <h1>ESPHome Offload</h1>
        </div>
        <nav aria-label=${text("sections")}>
          ${TABS.map(
            (tab) => html`<a
              href="${PAGE}/${tab}"
              aria-current=${(TAB_OF[section] ?? section) === tab ? "page" : nothing}
              @click=${follow}
              >${text(`tab.${tab}`)}${tab === "jobs" && active
                ? html` <span class="count" aria-hidden="true">${active}</span
                    ><span class="hidden">${counted(this.hass, "active_jobs", active)}</span>`
                : nothing}</a
            >`,
          )}
        </nav>
      </header>
      <main @page-error=${(event: CustomEvent<string>) => this.showError(event.detail)}>
        ${this.offline
          ? html`<p class="notice" role="status">${text("connection_lost")}</p>`
          : nothing}
        ${this.errors.length
          ? html`<div class="notice row" role="alert">
              <div class="grow">${this.errors.map((error) => html`<p>${error}</p>`)}</div>
              <button class="plain" @click=${() => (this.errors = [])}>${text("close")}</button>
            </div>`
          : nothing}
        ${this.section(section)}
      </main>
    `;
  }

  private section(section: string): TemplateResult {
    const { hass, store, revision } = this;
    if (section === "job" && this.path[1]) {
      return html`<esphome-offload-job
        .hass=${hass}
        .store=${store}
        .revision=${revision}
        .jobId=${this.path[1]}
      ></esphome-offload-job>`;
    }
    if (!store.overview) {
      return html`<p class="muted" role="status">${textsOf(hass)("loading")}</p>`;
    }
    if (section === "jobs") {
      return html`<esphome-offload-jobs
        .hass=${hass}
        .store=${store}
        .revision=${revision}
      ></esphome-offload-jobs>`;
    }
    if (section === "guest" && this.path[2]) {
      return html`<esphome-offload-guest-build
        .hass=${hass}
        .store=${store}
        .revision=${revision}
        .pin=${this.path[1]}
        .attemptId=${this.path[2]}
      ></esphome-offload-guest-build>`;
    }
    if (section === "builders") {
      return html`<esphome-offload-builders
        .hass=${hass}
        .store=${store}
        .revision=${revision}
      ></esphome-offload-builders>`;
    }
    return html`<esphome-offload-devices
      .hass=${hass}
      .store=${store}
      .revision=${revision}
    ></esphome-offload-devices>`;
  }

  private menu(): void {
    this.dispatchEvent(new CustomEvent("hass-toggle-menu", { bubbles: true, composed: true }));
  }

  static override styles = [
    shared,
    css`
      :host {
        display: flex;
        flex-direction: column;
        height: 100%;
        min-height: 100vh;
        background: var(--primary-background-color);
      }
      header {
        background: var(--app-header-background-color, var(--primary-color));
        color: var(--app-header-text-color, var(--text-primary-color));
        position: sticky;
        top: 0;
        z-index: 2;
      }
      .top {
        display: flex;
        align-items: center;
        height: 56px;
        padding-inline: 16px;
        gap: 8px;
      }
      .menu {
        color: inherit;
        padding-inline: 8px;
        font-size: 1.3rem;
      }
      h1 {
        font-size: 1.25rem;
        font-weight: 400;
      }
      nav {
        display: flex;
        padding-inline: 8px;
        overflow-x: auto;
      }
      nav a {
        color: inherit;
        text-decoration: none;
        display: flex;
        align-items: center;
        gap: 6px;
        height: 44px;
        padding: 0 14px;
        flex: none;
        border-block-end: 3px solid transparent;
      }
      nav a[aria-current] {
        border-color: currentColor;
        font-weight: 500;
      }
      nav a:focus-visible,
      .menu:focus-visible {
        outline-color: currentColor;
        outline-offset: -3px;
      }
      .count {
        border-radius: 10px;
        padding: 0 7px;
        font-size: 0.8rem;
        border: 1px solid currentColor;
      }
      main {
        width: 100%;
        max-width: 1100px;
        margin-inline: auto;
        padding: 12px 12px 48px;
        flex: 1;
      }
    `,
  ];
}
