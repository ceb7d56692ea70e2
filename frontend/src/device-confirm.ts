// The question before an action that takes something away: a job that waits, or a newer version.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";

import "./dialog";
import { Part, jobPath } from "./element";
import { stageText } from "./texts";
import { isWaiting, replacesVersion, type Device, type Job, type Operation } from "./types";

@customElement("esphome-offload-device-confirm")
export class DeviceConfirm extends Part {
  @property({ attribute: false }) device!: Device;
  @property({ attribute: false }) job?: Job;
  @property() operation: Operation = "install";

  protected override render(): TemplateResult {
    const { text, device, job, operation } = this;
    const { installed_version: from, wanted_version: to } = device;
    return html`<esphome-offload-dialog
      heading="${text(`operation.${operation}`)} · ${device.name}"
      closeLabel=${text("cancel")}
      @closed=${this.close}
    >
      ${job && isWaiting(job)
        ? html`<p>
            ${text("confirm.replaces", {
              operation: text(`operation.${job.operation}`),
              stage: stageText(text, job),
            })}
          </p>`
        : nothing}
      ${operation === "install" && replacesVersion(device)
        ? html`<p>${text("confirm.version", { from: from ?? "?", to: to ?? "?" })}</p>`
        : nothing}
      <p class="row">
        <button class="primary" @click=${this.confirmed}>${text(`operation.${operation}`)}</button>
      </p>
    </esphome-offload-dialog>`;
  }

  private close(): void {
    this.dispatchEvent(new CustomEvent("closed"));
  }

  private async confirmed(): Promise<void> {
    const job = await this.submit(this.device.id, this.operation);
    this.close();
    if (job) this.go(jobPath(job));
  }
}
