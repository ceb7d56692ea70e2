// One job in a list: what, where it stands, where it is built, and what can be done about it.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";

import "./progress";
import "./why";
import { Part, follow, jobPath } from "./element";
import { duration, expectedEnd, moment, standing } from "./texts";
import { isOver, type Job } from "./types";

@customElement("esphome-offload-job-row")
export class JobRow extends Part {
  @property({ attribute: false }) job!: Job;
  @state() private busy = false;

  protected override render(): TemplateResult {
    const { job, text } = this;
    const name = this.store.nameOf(job);
    const over = isOver(job);
    const expected = expectedEnd(this.hass, job);
    return html`
      <div class="what">
        <a href=${jobPath(job)} @click=${follow}>${name}</a>
        <span class="muted"
          >${text(`operation.${job.operation}`)}
          ${job.operation === "clean" ? nothing : this.versions()}</span
        >
      </div>
      <div class="state">
        <span class="badge ${job.in_progress || over ? job.status : "waiting"}"
          >${standing(text, job)}</span
        >
        ${job.source_label
          ? html`<span class="muted">${text("on_builder", { builder: job.source_label })}</span>`
          : nothing}
        <span class="muted"
          >${over && job.finished_at
            ? `${moment(this.hass, job.finished_at)} · ${duration(text, job.seconds)}`
            : html`<esphome-offload-elapsed .hass=${this.hass} .job=${job}></esphome-offload-elapsed>`}</span
        >
        ${expected ? html`<span class="muted">${expected}</span>` : nothing}
      </div>
      <esphome-offload-progress .hass=${this.hass} .job=${job}></esphome-offload-progress>
      ${this.note() ? html`<p class="note muted">${this.note()}</p>` : nothing}
      <esphome-offload-why .hass=${this.hass} .job=${job}></esphome-offload-why>
      <div class="row actions">
        ${over
          ? job.status === "completed"
            ? nothing
            : html`<button ?disabled=${this.busy} @click=${this.again}>
                ${text("retry")}<span class="hidden"> ${name}</span>
              </button>`
          : html`<button class="danger" ?disabled=${this.busy} @click=${this.stop}>
              ${text("cancel")}<span class="hidden"> ${name}</span>
            </button>`}
        <a class="button" href=${jobPath(job)} @click=${follow}
          >${text("log.open")}<span class="hidden"> ${name}</span></a
        >
      </div>
    `;
  }

  private versions(): string {
    const { from_version: from, esphome_version: to } = this.job;
    return from && from !== to ? `${from} → ${to}` : to;
  }

  private note(): string | null {
    const { job } = this;
    return job.waiting_for ?? job.error ?? job.message;
  }

  private async stop(): Promise<void> {
    this.busy = true;
    await this.cancel(this.job);
    this.busy = false;
  }

  private async again(): Promise<void> {
    this.busy = true;
    await this.retry(this.job);
    this.busy = false;
  }

  static override styles = [
    ...Part.styles,
    css`
      :host {
        display: grid;
        grid-template-columns: 1fr auto;
        gap: 6px 12px;
        padding: 12px 16px;
        align-items: center;
      }
      .what {
        display: flex;
        flex-wrap: wrap;
        gap: 2px 10px;
        align-items: baseline;
        overflow-wrap: anywhere;
      }
      .state {
        grid-column: 1;
        display: flex;
        flex-wrap: wrap;
        gap: 4px 10px;
        align-items: center;
      }
      .actions {
        grid-column: 2;
        grid-row: 1 / span 2;
      }
      esphome-offload-progress,
      esphome-offload-why,
      .note {
        grid-column: 1 / -1;
        overflow-wrap: anywhere;
      }
      @media (max-width: 600px) {
        .actions {
          grid-column: 1 / -1;
          grid-row: auto;
        }
      }
    `,
  ];
}
