// One job: where it stands, why it is built there, what went wrong, and its output.

import { css, html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";

import "./log-view";
import "./progress";
import "./why";
import { PAGE, Part, follow } from "./element";
import type { LogView } from "./log-view";
import { duration, expectedEnd, moment, percentText, placeText } from "./texts";
import { isOver, type Job, type LogEvent } from "./types";

@customElement("esphome-offload-job")
export class OffloadJob extends Part {
  @property() jobId = "";
  @state() private job?: Job;
  @state() private missing = "";
  @state() private busy = false;
  @query("esphome-offload-log-view") private log?: LogView;

  protected override willUpdate(changed: PropertyValues<this>): void {
    const known = this.store.jobs.get(this.jobId);
    if (changed.has("jobId")) {
      this.job = known;
      this.missing = "";
    } else if (known && this.job !== known && !(this.job && isOver(this.job))) {
      this.job = known;
    }
  }

  protected override render(): TemplateResult {
    const { text, job } = this;
    if (this.missing) {
      return html`<p class="notice" role="alert">${this.missing}</p>
        <p><a href="${PAGE}/jobs" @click=${follow}>${text("tab.jobs")}</a></p>`;
    }
    return html`
      ${job ? this.head(job) : html`<p class="muted" role="status">${text("loading")}</p>`}
      <esphome-offload-log-view
        .hass=${this.hass}
        .command=${JSON.stringify({ type: "esphome_offload/job/follow", job_id: this.jobId })}
        .device=${job ? this.store.nameOf(job) : ""}
        .name="${job?.device_name ?? "esphome"}-${this.jobId.slice(0, 12)}"
        ?live=${!!job && !isOver(job)}
        @output=${(event: CustomEvent<LogEvent>) => (this.job = event.detail.job)}
        @missing=${(event: CustomEvent<string>) => (this.missing = event.detail)}
      ></esphome-offload-log-view>
    `;
  }

  private head(job: Job): TemplateResult {
    const { text } = this;
    const over = isOver(job);
    const expected = expectedEnd(this.hass, job);
    return html`
      <div class="head">
        <h2>
          ${job.operation === "clean"
            ? `${text("operation.clean")}: ${this.store.nameOf(job)}`
            : text("job_of", {
                operation: text(`operation.${job.operation}`),
                device: this.store.nameOf(job),
                version: this.versions(job),
              })}
        </h2>
        <div class="row">
          <span class="badge ${job.status}"
            ><span role="status">${placeText(text, job)}</span>${percentText(job)}</span
          >
          ${job.source_label
            ? html`<span class="muted">${text("on_builder", { builder: job.source_label })}</span>`
            : nothing}
          <span class="muted"
            >${over
              ? duration(text, job.seconds)
              : html`<esphome-offload-elapsed
                  .hass=${this.hass}
                  .job=${job}
                ></esphome-offload-elapsed>`}</span
          >
          ${over && job.finished_at
            ? html`<span class="muted">${moment(this.hass, job.finished_at)}</span>`
            : nothing}
          ${expected ? html`<span class="muted">${expected}</span>` : nothing}
        </div>
        <esphome-offload-progress .hass=${this.hass} .job=${job}></esphome-offload-progress>
        ${job.waiting_for || job.message
          ? html`<p class="notice info" role="status">${job.message ?? job.waiting_for}</p>`
          : nothing}
        <esphome-offload-why .hass=${this.hass} .job=${job}></esphome-offload-why>
        ${job.status === "failed" ? nothing : html`<div class="row">${this.actions(job)}</div>`}
      </div>
      ${job.status === "failed" ? this.failure(job) : nothing}
    `;
  }

  /** Stays in sight while the output is read. */
  private failure(job: Job): TemplateResult {
    const { text } = this;
    return html`<div class="notice failure" role="alert">
      <p><b>${job.error ?? text("status.failed")}</b></p>
      ${job.failure_reason ? html`<p>${text(`hint.${job.failure_reason}`)}</p>` : nothing}
      <div class="row">
        ${this.actions(job)}
        <button @click=${() => this.log?.showError()}>${text("log.show_error")}</button>
      </div>
    </div>`;
  }

  private actions(job: Job): TemplateResult {
    const { text } = this;
    const elsewhere =
      job.status !== "completed" &&
      job.source !== "local" &&
      job.requested_source !== "local" &&
      !SAME_HERE.has(job.failure_reason ?? "");
    const builds = job.operation === "install" || job.operation === "compile";
    const built = !isOver(job) && BUILT.has(job.stage ?? "");
    return html`${isOver(job)
      ? html`<button
          class="primary"
          ?disabled=${this.busy}
          @click=${() => this.once(() => this.retry(job))}
        >
          ${text(job.status === "completed" ? "again" : "retry")}
        </button>`
      : html`<button
          class="danger"
          ?disabled=${this.busy}
          @click=${() => this.once(() => this.cancel(job))}
        >
          ${text("cancel")}
        </button>`}
    ${elsewhere && builds && !built && this.canBuildHere
      ? html`<button ?disabled=${this.busy} @click=${() => this.once(() => this.buildHere(job))}>
          ${text("build_here")}
        </button>`
      : nothing}`;
  }

  private async once(act: () => Promise<void>): Promise<void> {
    this.busy = true;
    await act();
    this.busy = false;
  }

  private versions(job: Job): string {
    const { from_version: from, esphome_version: to } = job;
    return from && from !== to ? `${from} → ${to}` : to;
  }

  private get canBuildHere(): boolean {
    return !!this.store.overview?.builders.find((each) => each.id === "local")?.available;
  }

  private async buildHere(job: Job): Promise<void> {
    if (!isOver(job)) await this.cancel(job);
    await this.retry(job, "local");
  }

  static override styles = [
    ...Part.styles,
    css`
      :host {
        display: flex;
        flex-direction: column;
        min-height: calc(100vh - 160px);
      }
      .head {
        display: grid;
        gap: 8px;
      }
      h2 {
        margin-block: 4px 0;
        overflow-wrap: anywhere;
      }
      .notice {
        margin-block: 0;
      }
      .failure {
        display: grid;
        gap: 8px;
        position: sticky;
        inset-block-start: var(--page-header);
        z-index: 1;
        margin-block-start: 8px;
      }
    `,
  ];
}

/** Failures that a build by another builder does not change. */
const SAME_HERE = new Set([
  "config_invalid",
  "device_offline",
  "upload_refused",
  "upload_failed",
  "wrong_device",
  "not_verified",
  "rolled_back",
]);
/** The stages in which there is nothing left to build. */
const BUILT = new Set(["waiting_device", "uploading", "verifying"]);
