// The dialogs of a device: what to build it with, what was built, and why it is listed as it is.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";

import "./dialog";
import { Part, jobPath } from "./element";
import { builderName, moment, stageText } from "./texts";
import { isOver, isWaiting, type Device, type DeviceDetails, type Job, type Operation } from "./types";

@customElement("esphome-offload-device-dialog")
export class DeviceDialog extends Part {
  @property({ attribute: false }) device!: Device;
  @property({ attribute: false }) job?: Job;
  @property() kind: "choose" | "download" | "why" = "choose";
  @state() private details?: DeviceDetails;
  @state() private loading = false;

  override connectedCallback(): void {
    super.connectedCallback();
    void this.load();
  }

  private async load(): Promise<void> {
    this.details = await this.command<DeviceDetails>({
      type: "esphome_offload/device/details",
      device: this.device.id,
    });
    if (!this.details) this.close();
  }

  private close(): void {
    this.dispatchEvent(new CustomEvent("closed"));
  }

  protected override render(): TemplateResult {
    const { text, device, details } = this;
    const titles = {
      choose: "devices.choose_build",
      download: "devices.download",
      why: "devices.show_why",
    };
    const parts = { choose: this.choose, download: this.downloads, why: this.why };
    return html`<esphome-offload-dialog
      heading="${text(titles[this.kind])} · ${device.name}"
      closeLabel=${text("close")}
      @closed=${this.close}
    >
      ${details
        ? parts[this.kind].call(this, details)
        : html`<p class="muted" role="status">${text("loading")}</p>`}
    </esphome-offload-dialog>`;
  }

  private choose(details: DeviceDetails): TemplateResult {
    const { text, device } = this;
    const builders = this.store.overview?.builders ?? [];
    const active = this.job && !isOver(this.job) ? this.job : undefined;
    const taken = !!active && !isWaiting(active);
    return html`<form class="form" @submit=${this.submitted}>
      <label
        >${text("devices.version")}
        <input
          name="version"
          list="versions"
          placeholder=${device.wanted_version ?? ""}
          autocomplete="off"
          autocapitalize="off"
          spellcheck="false"
        />
        <datalist id="versions">
          ${details.versions.map((version) => html`<option value=${version}></option>`)}
        </datalist>
      </label>
      <p class="muted">${text("devices.once")}</p>
      <label
        >${text("devices.builder")}
        <select name="source">
          <option value="auto">${text("devices.automatic")}</option>
          ${builders.map(
            (each) => html`<option value=${each.id}>
              ${builderName(text, each, builders)}${each.available ? "" : ` – ${text("builders.not_now")}`}
            </option>`,
          )}
        </select>
      </label>
      <label class="row"
        ><input type="checkbox" name="clean" /><span class="grow"
          >${text("devices.clean_build")}</span
        ></label
      >
      ${active
        ? html`<p class="muted">
            ${taken
              ? text("why.job")
              : text("confirm.replaces", {
                  operation: text(`operation.${active.operation}`),
                  stage: stageText(text, active),
                })}
          </p>`
        : nothing}
      <div class="row">
        <button
          class="primary"
          value="install"
          ?disabled=${taken || !device.over_the_air || device.rivals.length > 0}
        >
          ${text("operation.install")}
        </button>
        <button value="compile" ?disabled=${taken}>${text("operation.compile")}</button>
      </div>
    </form>`;
  }

  private async submitted(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    const version = String(fields.get("version") ?? "").trim();
    const operation = (event.submitter as HTMLButtonElement).value as Operation;
    // An error is shown by the page: what is gone from it cannot tell.
    const job = await this.submit(this.device.id, operation, {
      ...(version ? { version } : {}),
      source: String(fields.get("source") ?? "auto"),
      clean: fields.has("clean"),
    });
    this.close();
    if (job) this.go(jobPath(job));
  }

  private downloads({ firmware }: DeviceDetails): TemplateResult {
    const { text } = this;
    if (!firmware) return html`<p>${text("download.nothing")}</p>`;
    const version = firmware.esphome_version;
    return html`<p>
        ${firmware.built_at
          ? text("download.built_at", { version, time: moment(this.hass, firmware.built_at) })
          : text("download.built", { version })}
      </p>
      <ul class="choices">
        ${firmware.images.map(
          (image) => html`<li>
            <button ?disabled=${this.loading} @click=${() => this.download(firmware.sha256, image)}>
              ${text(`image.${image}`)}
            </button>
            <p class="muted">${text(`image_for.${image}`)}</p>
          </li>`,
        )}
      </ul>
      ${this.loading ? html`<p class="muted" role="status">${text("loading")}</p>` : nothing}`;
  }

  private async download(sha256: string, image: string): Promise<void> {
    this.loading = true;
    const answer = await this.command<{ url: string }>({
      type: "esphome_offload/firmware/prepare",
      device: this.device.id,
      sha256,
      image,
    });
    const signed =
      answer && (await this.command<{ path: string }>({ type: "auth/sign_path", path: answer.url }));
    this.loading = false;
    if (!signed) return;
    const link = document.createElement("a");
    link.href = signed.path;
    link.download = "";
    link.click();
  }

  private why(details: DeviceDetails): TemplateResult {
    const { text } = this;
    const others = Object.entries(details.why_not);
    return html`
      <h3>${text("why.install")}</h3>
      <ul class="reasons">
        ${this.reasons().map((reason) => html`<li>${reason}</li>`)}
      </ul>
      <h3>${text("why.builder")}</h3>
      <p>
        ${details.builder ? html`<b>${details.builder}</b>: ` : nothing}${details.reason}
      </p>
      ${others.length
        ? html`<h3>${text("why.not_others")}</h3>
            <ul class="reasons">
              ${others.map(([label, why]) => html`<li><b>${label}</b>: ${why}</li>`)}
            </ul>`
        : nothing}
    `;
  }

  private reasons(): string[] {
    const { text, device, job } = this;
    const { installed_version: from, wanted_version: to } = device;
    const reasons: string[] = [];
    if (!from) reasons.push(text("why.unknown"));
    else if (device.update && to && from !== to) reasons.push(text("why.version", { from, to }));
    if (device.pinned && to) reasons.push(text("why.pinned", { version: to }));
    if (device.configuration_changed) reasons.push(text("why.changed"));
    else if (device.configuration_changed === null && from) reasons.push(text("why.not_compared"));
    if (device.rivals.length) {
      reasons.push(text("devices.unclear", { rivals: device.rivals.join(", ") }));
    }
    if (!device.over_the_air) reasons.push(text("devices.no_ota"));
    if (job && !isOver(job)) reasons.push(text("why.job"));
    else if (job?.status === "failed" && job.error) reasons.push(job.error);
    return reasons.length ? reasons : [text("why.current")];
  }

  static override styles = [
    ...Part.styles,
    css`
      .form,
      .form label:not(.row) {
        display: grid;
        gap: 6px;
      }
      .form {
        gap: 12px;
        margin-block: 12px;
      }
      .choices {
        display: grid;
        gap: 12px;
        margin-block: 12px;
      }
      h3 {
        margin-block: 16px 4px;
      }
      .reasons {
        list-style: disc;
        padding-inline-start: 20px;
      }
      p,
      li {
        overflow-wrap: anywhere;
      }
    `,
  ];
}
