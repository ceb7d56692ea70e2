// Why a job is built by this builder, and why not by the others.

import { LitElement, css, html, nothing, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";

import { shared } from "./styles";
import { textsOf } from "./texts";
import type { HomeAssistant, Job } from "./types";

@customElement("esphome-offload-why")
export class OffloadWhy extends LitElement {
  @property({ attribute: false }) hass!: HomeAssistant;
  @property({ attribute: false }) job!: Job;

  protected override render(): TemplateResult | typeof nothing {
    const { job } = this;
    const others = Object.entries(job.why_not);
    if (!job.routing_reason && !others.length) return nothing;
    return html`<details>
      <summary>${textsOf(this.hass)("why_builder")}</summary>
      ${job.routing_reason
        ? html`<p>${job.source_label ? html`<b>${job.source_label}</b>: ` : nothing}${job.routing_reason}</p>`
        : nothing}
      <ul>
        ${others.map(([label, why]) => html`<li><b>${label}</b>: ${why}</li>`)}
      </ul>
    </details>`;
  }

  static override styles = [
    shared,
    css`
      details {
        font-size: 0.9rem;
        overflow-wrap: anywhere;
      }
      summary {
        cursor: pointer;
        width: fit-content;
        padding-block: 4px;
      }
    `,
  ];
}
