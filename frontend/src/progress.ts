// How far a job is, and for how long it has been going on.

import { LitElement, css, html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";

import { shared } from "./styles";
import { duration, textsOf } from "./texts";
import { isOver, type HomeAssistant, type Job } from "./types";

@customElement("esphome-offload-progress")
export class OffloadProgress extends LitElement {
  @property({ attribute: false }) hass!: HomeAssistant;
  @property({ attribute: false }) job?: Job;

  protected override render(): TemplateResult | typeof nothing {
    const { job } = this;
    if (!job?.in_progress) return nothing;
    return html`<progress
      max="100"
      value=${job.progress ?? nothing}
      aria-label=${textsOf(this.hass)("progress_of", { device: job.device_name })}
    ></progress>`;
  }

  static override styles = [
    shared,
    css`
      progress {
        width: 100%;
        height: 6px;
        /* Contrast enough for a light track in light mode, and a dark one in the dark. */
        accent-color: var(--page-accent);
        display: block;
      }
    `,
  ];
}

@customElement("esphome-offload-elapsed")
export class OffloadElapsed extends LitElement {
  @property({ attribute: false }) hass!: HomeAssistant;
  @property({ attribute: false }) job!: Job;
  @state() private now = Date.now();
  /** By the browser's clock, which need not be that of Home Assistant. */
  private since = 0;
  private timer?: ReturnType<typeof setInterval>;

  override connectedCallback(): void {
    super.connectedCallback();
    this.timer = setInterval(() => {
      if (!isOver(this.job)) this.now = Date.now();
    }, 1000);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.timer);
  }

  protected override willUpdate(changed: Map<string, unknown>): void {
    if (!changed.has("job")) return;
    this.now = Date.now();
    this.since = this.now - this.job.seconds * 1000;
  }

  protected override render(): string {
    return duration(textsOf(this.hass), (this.now - this.since) / 1000);
  }
}
