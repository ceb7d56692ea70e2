// The question before a request that takes something away: a job that waits, or a newer version.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";

import "./dialog";
import { Part, jobPath } from "./element";
import { stageText } from "./texts";
import { replacesJob, replacesVersion, type Device, type Job, type JobRequest } from "./types";

@customElement("esphome-offload-device-confirm")
export class DeviceConfirm extends Part {
  @property({ attribute: false }) device!: Device;
  @property({ attribute: false }) job?: Job;
  @property({ attribute: false }) request!: JobRequest;

  protected override render(): TemplateResult {
    const { text, device, job, request } = this;
    const label = text(request.rebuild ? "devices.rebuild" : `operation.${request.operation}`);
    const { installed_version: from, wanted_version: to } = device;
    return html`<esphome-offload-dialog
      heading="${label} · ${device.name}"
      closeLabel=${text("cancel")}
      @closed=${this.close}
    >
      ${job && replacesJob(request, device, job)
        ? html`<p>
            ${text("confirm.replaces", {
              operation: text(`operation.${job.operation}`),
              stage: stageText(text, job),
            })}
          </p>`
        : nothing}
      ${request.operation === "install" && replacesVersion(device)
        ? html`<p>${text("confirm.version", { from: from ?? "?", to: to ?? "?" })}</p>`
        : nothing}
      <p class="row">
        <button class="primary" @click=${this.confirmed}>${label}</button>
      </p>
    </esphome-offload-dialog>`;
  }

  private close(): void {
    this.dispatchEvent(new CustomEvent("closed"));
  }

  private async confirmed(): Promise<void> {
    const { operation, ...options } = this.request;
    const job = await this.submit(this.device.id, operation, options);
    this.close();
    if (job) this.go(jobPath(job));
  }
}
