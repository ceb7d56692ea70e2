// One device: what it runs, what it should, where its job stands, and what can be done with it.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";

import "./menu";
import "./progress";
import { Part, follow, jobPath } from "./element";
import type { MenuItem } from "./menu";
import { standing } from "./texts";
import {
  isOver,
  isWaiting,
  replacesJob,
  replacesVersion,
  type Device,
  type Job,
  type JobRequest,
} from "./types";

/** A dialog of a device: one that shows something, or the question before a request. */
export type Dialog = "choose" | "download" | "why" | JobRequest;

@customElement("esphome-offload-device-row")
export class DeviceRow extends Part {
  @property({ attribute: false }) device!: Device;
  @property({ attribute: false }) job?: Job;
  @property({ type: Boolean }) chosen = false;
  @state() private busy = false;

  protected override render(): TemplateResult {
    const { text, device, job } = this;
    const active = job && !isOver(job) ? job : undefined;
    const update = device.update && canInstall(device);
    return html`
      <input
        type="checkbox"
        aria-label=${text("devices.choose", { device: device.name })}
        ?disabled=${!canInstall(device)}
        .checked=${this.chosen}
        @change=${() => this.dispatchEvent(new CustomEvent("chosen"))}
      />
      <div class="about">
        <h3>
          ${device.name}
          <span class="muted">${this.presence(device)}</span>
        </h3>
        <p class="muted">
          ${device.configuration}${device.comment ? html` · ${device.comment}` : nothing}
        </p>
        <p class="row">
          <span>${this.versions(device)}</span>
          ${this.badges(device, job, active, update)}
        </p>
        <esphome-offload-progress .hass=${this.hass} .job=${active}></esphome-offload-progress>
        ${active?.waiting_for ?? active?.message
          ? html`<p class="muted">${active?.message ?? active?.waiting_for}</p>`
          : nothing}
        ${device.rivals.length
          ? html`<p class="muted">
              ${text("devices.unclear", { rivals: device.rivals.join(", ") })}
              <a href="/config/repairs" @click=${follow}>${text("devices.decide")}</a>
            </p>`
          : nothing}
        ${!active && job?.status === "failed" && job.error
          ? html`<p class="muted">${job.error}</p>`
          : nothing}
        ${device.over_the_air ? nothing : html`<p class="muted">${text("devices.no_ota")}</p>`}
      </div>
      <div class="row actions">
        ${active
          ? html`<button class="danger" ?disabled=${this.busy} @click=${() => this.stop(active)}>
              ${text("cancel")}<span class="hidden"> ${device.name}</span>
            </button>`
          : html`<button
              class=${update ? "primary" : ""}
              ?disabled=${this.busy || !canInstall(device)}
              @click=${() => this.act({ operation: "install" })}
            >
              ${this.installLabel(device, update)}<span class="hidden"> ${device.name}</span>
            </button>`}
        ${job
          ? html`<a class="button" href=${jobPath(job)} @click=${follow}
              >${text("log.open")}<span class="hidden"> ${device.name}</span></a
            >`
          : nothing}
        <esphome-offload-menu
          .label=${text("devices.more_of", { device: device.name })}
          .items=${this.menu(device, active)}
        ></esphome-offload-menu>
      </div>
    `;
  }

  private installLabel(device: Device, update: boolean): string {
    const { text } = this;
    if (update) return text("devices.install");
    return replacesVersion(device)
      ? text("devices.install_version", { version: device.wanted_version ?? "" })
      : text("devices.install_again");
  }

  private menu(device: Device, active: Job | undefined): MenuItem[] {
    const { text } = this;
    const taken = !!active && !isWaiting(active);
    const able = canInstall(device);
    const editor = this.store.overview?.esphome_url;
    return [
      {
        label: text("devices.rebuild"),
        act: () => this.act({ operation: "install", rebuild: true }),
        disabled: taken || !able,
      },
      {
        label: text("operation.compile"),
        act: () => this.act({ operation: "compile" }),
        disabled: taken,
      },
      {
        label: text("devices.upload"),
        act: () => this.act({ operation: "upload" }),
        disabled: taken || !able,
      },
      {
        label: text("devices.clean"),
        act: () => this.act({ operation: "clean" }),
        disabled: taken,
      },
      { label: text("devices.choose_build"), act: () => this.open("choose") },
      { label: text("devices.download"), act: () => this.open("download") },
      { label: text("devices.show_why"), act: () => this.open("why") },
      ...(device.device_id
        ? [{ label: text("devices.page"), href: `/config/devices/device/${device.device_id}` }]
        : []),
      ...(editor ? [{ label: text("open_in_esphome"), href: editor }] : []),
    ];
  }

  private presence(device: Device): string {
    if (device.online === null) return this.text("devices.unknown_to_home_assistant");
    if (device.online) return this.text("devices.online");
    return this.text(device.deep_sleep ? "devices.asleep" : "devices.offline");
  }

  private versions(device: Device): string {
    const { installed_version: from, wanted_version: to } = device;
    const shown = from ?? "?";
    return device.update && to && from !== to ? `${shown} → ${to}` : shown;
  }

  private badges(
    device: Device,
    job: Job | undefined,
    active: Job | undefined,
    update: boolean,
  ): TemplateResult {
    const { text } = this;
    return html`
      ${device.pinned ? html`<span class="muted">${text("devices.pinned")}</span>` : nothing}
      ${active
        ? html`<span class="badge ${active.in_progress ? "" : "waiting"}"
            >${standing(text, active)}</span
          >`
        : nothing}
      ${!active && job?.status === "failed"
        ? html`<span class="badge failed">${text("status.failed")}</span>`
        : nothing}
      ${!active && update && !device.configuration_changed
        ? html`<span class="badge update">${text("devices.update")}</span>`
        : nothing}
      ${device.configuration_changed
        ? html`<span class="badge changed">${text("devices.changed")}</span>`
        : nothing}
    `;
  }

  private async stop(job: Job): Promise<void> {
    this.busy = true;
    await this.cancel(job);
    this.busy = false;
  }

  /** The list shows the dialog: one in a row would close when the row moves. */
  private open(dialog: Dialog): void {
    this.dispatchEvent(new CustomEvent<Dialog>("dialog", { detail: dialog }));
  }

  /** The log opens by itself: it is what a person wants to see next. */
  private async act(request: JobRequest): Promise<void> {
    const { device, job } = this;
    const { operation, ...options } = request;
    const anotherVersion = operation === "install" && replacesVersion(device);
    if (anotherVersion || (job && replacesJob(request, device, job))) {
      this.open(request);
      return;
    }
    this.busy = true;
    const started = await this.submit(device.id, operation, options);
    this.busy = false;
    if (started) this.go(jobPath(started));
  }

  static override styles = [
    ...Part.styles,
    css`
      :host {
        display: grid;
        grid-template-columns: auto 1fr auto;
        gap: 8px 12px;
        padding: 12px 16px;
        align-items: center;
      }
      .about {
        display: grid;
        gap: 3px;
        overflow-wrap: anywhere;
        min-width: 0;
      }
      .actions {
        flex-wrap: nowrap;
      }
      @media (max-width: 600px) {
        :host {
          grid-template-columns: auto 1fr;
        }
        .actions {
          grid-column: 2;
          flex-wrap: wrap;
        }
      }
    `,
  ];
}

export const canInstall = (device: Device): boolean =>
  device.over_the_air && !device.rivals.length;
