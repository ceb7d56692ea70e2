// The devices, those in need first; several can be chosen, and a bar acts on them.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement, query, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";

import "./device-confirm";
import "./device-dialogs";
import "./device-row";
import { canInstall, type Dialog } from "./device-row";
import "./dialog";
import { Part, follow, settingsPath } from "./element";
import { counted } from "./texts";
import { isOver, replacesVersion, type Device, type Job, type Operation } from "./types";

interface Row {
  device: Device;
  job?: Job;
  active: boolean;
  update: boolean;
}

@customElement("esphome-offload-devices")
export class OffloadDevices extends Part {
  @state() private search = "";
  @state() private chosen = new Set<string>();
  @state() private dialog?: { device: string; kind: Dialog };
  @state() private explains = false;
  @query("#list") private list?: HTMLElement;
  private order: string[] = [];

  protected override render(): TemplateResult {
    const { text } = this;
    const rows = this.rows();
    const find = this.search.trim().toLowerCase();
    const shown = rows.filter((row) => matches(row.device, find));
    const chosen = rows.filter((row) => this.chosen.has(row.device.id));
    const editor = this.store.overview?.esphome_url;
    return html`
      ${this.welcome(rows)}
      <div class="row bar">
        <input
          type="search"
          aria-label=${text("devices.search")}
          placeholder=${text("devices.search")}
          .value=${this.search}
          @input=${(event: Event) => (this.search = (event.target as HTMLInputElement).value)}
        />
        <button
          ?disabled=${!shown.some((row) => row.update && !row.active)}
          @click=${() => this.chooseUpdates(shown)}
        >
          ${text("devices.choose_updates")}
        </button>
        <button @click=${() => (this.explains = true)}>${text("devices.automatic_updates")}</button>
        ${editor
          ? html`<a class="button" href=${editor} @click=${follow}>${text("open_in_esphome")}</a>`
          : nothing}
      </div>
      ${this.selection(chosen)}
      ${shown.length
        ? html`<ul
            id="list"
            class="card"
            aria-label=${text("tab.devices")}
            @focusout=${this.left}
            @pointerleave=${this.left}
          >
            ${repeat(
              shown,
              (row) => row.device.id,
              (row) => html`<li>
                <esphome-offload-device-row
                  .hass=${this.hass}
                  .store=${this.store}
                  .device=${row.device}
                  .job=${row.job}
                  ?chosen=${this.chosen.has(row.device.id)}
                  @chosen=${() => this.toggle(row.device)}
                  @dialog=${(event: CustomEvent<Dialog>) =>
                    (this.dialog = { device: row.device.id, kind: event.detail })}
                ></esphome-offload-device-row>
              </li>`,
            )}
          </ul>`
        : rows.length
          ? html`<p class="muted" role="status">${text("devices.none_found")}</p>`
          : nothing}
      ${this.unreadable()} ${this.openDialog()} ${this.automaticUpdates()}
    `;
  }

  /** Those in need first; in the order of before while a person is at one of them. */
  private rows(): Row[] {
    const rows = [...this.store.devices.values()]
      .map((device) => {
        const job = this.store.jobOf(device);
        return {
          device,
          job,
          active: !!job && !isOver(job),
          update: device.update && canInstall(device),
        };
      })
      .sort((a, b) => need(a) - need(b) || a.device.name.localeCompare(b.device.name));
    if (this.inUse) {
      const places = new Map(this.order.map((id, place) => [id, place]));
      const place = ({ device }: Row): number => places.get(device.id) ?? places.size;
      rows.sort((a, b) => place(a) - place(b));
    }
    this.order = rows.map(({ device }) => device.id);
    return rows;
  }

  /** On a touch screen the pointer stays where it was last. */
  private get inUse(): boolean {
    const { list } = this;
    if (this.dialog || list?.matches(":focus-within")) return true;
    return !!list?.matches(":hover") && matchMedia("(hover: hover)").matches;
  }

  /** The focus is not yet where it goes to. */
  private left(): void {
    setTimeout(() => this.requestUpdate());
  }

  private openDialog(): TemplateResult | typeof nothing {
    const device = this.dialog && this.store.devices.get(this.dialog.device);
    if (!this.dialog || !device) return nothing;
    const { kind } = this.dialog;
    const job = this.store.jobOf(device);
    const closed = (): void => (this.dialog = undefined);
    return typeof kind === "string"
      ? html`<esphome-offload-device-dialog
          .hass=${this.hass}
          .store=${this.store}
          .device=${device}
          .job=${job}
          .kind=${kind}
          @closed=${closed}
        ></esphome-offload-device-dialog>`
      : html`<esphome-offload-device-confirm
          .hass=${this.hass}
          .store=${this.store}
          .device=${device}
          .job=${job}
          .request=${kind}
          @closed=${closed}
        ></esphome-offload-device-confirm>`;
  }

  /** Where they are set: a dialog of Home Assistant, which has no address. */
  private automaticUpdates(): TemplateResult | typeof nothing {
    const { text } = this;
    if (!this.explains) return nothing;
    return html`<esphome-offload-dialog
      heading=${text("devices.automatic_updates")}
      closeLabel=${text("close")}
      @closed=${() => (this.explains = false)}
    >
      <p>${text("devices.automatic_updates_help")}</p>
      <a class="button" href=${settingsPath(this.store)} @click=${follow}
        >${text("welcome.settings")}</a
      >
    </esphome-offload-dialog>`;
  }

  /** What can be done with those that are chosen. */
  private selection(rows: Row[]): TemplateResult | typeof nothing {
    const { text } = this;
    if (!rows.length) return nothing;
    const idle = rows.filter((row) => !row.active);
    const others = idle.filter((row) => replacesVersion(row.device));
    const installs = idle.filter((row) => !others.includes(row));
    const active = rows.length - idle.length;
    return html`<div class="row selection card" role="group" aria-label=${text("devices.selection")}>
      <span class="grow" role="status"
        >${counted(this.hass, "devices.chosen", rows.length)}
        ${active ? html`· ${counted(this.hass, "devices.left_out", active)}` : nothing}
        ${others.length
          ? html`· ${counted(this.hass, "devices.other_version", others.length)}`
          : nothing}</span
      >
      <button
        class="primary"
        ?disabled=${!installs.length}
        @click=${() => this.forAll(installs, "install")}
      >
        ${counted(this.hass, "devices.install_chosen", installs.length)}
      </button>
      <button ?disabled=${!idle.length} @click=${() => this.forAll(idle, "compile")}>
        ${text("operation.compile")}
      </button>
      <button ?disabled=${!idle.length} @click=${() => this.forAll(idle, "clean")}>
        ${text("devices.clean")}
      </button>
      ${active
        ? html`<button class="danger" @click=${() => this.cancelAll(rows)}>${text("cancel")}</button>`
        : nothing}
      <button class="plain" @click=${() => (this.chosen = new Set())}>
        ${text("devices.choose_none")}
      </button>
    </div>`;
  }

  /** What was found, and what comes next: shown until there is a device and a builder. */
  private welcome(rows: Row[]): TemplateResult | typeof nothing {
    const { text } = this;
    const overview = this.store.overview;
    if (!overview) return nothing;
    if (!overview.set_up || overview.folder === null) {
      return html`<p class="notice info">
        ${text(overview.set_up ? "welcome.no_folder" : "welcome.not_set_up")}
        <a href=${settingsPath(this.store)} @click=${follow}
          >${text("welcome.settings")}</a
        >
      </p>`;
    }
    if (!rows.length) {
      return html`<p class="notice info">${text("welcome.no_devices", { folder: overview.folder })}</p>`;
    }
    if (!overview.builders.some((builder) => builder.available)) {
      return html`<p class="notice info">
        ${counted(this.hass, "welcome.no_builder", rows.length)}
        <a href="/esphome-offload/builders" @click=${follow}>${text("tab.builders")}</a>
      </p>`;
    }
    if (!this.store.jobs.size) {
      const updates = rows.filter((row) => row.update).length;
      return html`<p class="notice info">
        ${counted(this.hass, "welcome.ready", rows.length, { updates, folder: overview.folder })}
        ${overview.builders.length === 1
          ? html`${text("welcome.only_here")}
              <a href="/esphome-offload/builders" @click=${follow}>${text("builders.add")}</a>`
          : nothing}
      </p>`;
    }
    return nothing;
  }

  private unreadable(): TemplateResult | typeof nothing {
    const files = Object.entries(this.store.overview?.unreadable ?? {});
    if (!files.length) return nothing;
    return html`<h2 id="unreadable">${this.text("devices.unreadable")}</h2>
      <ul class="card" aria-labelledby="unreadable">
        ${files.map(
          ([file, reason]) =>
            html`<li class="file">
              <h3>${file}</h3>
              <p class="muted">${reason}</p>
            </li>`,
        )}
      </ul>`;
  }

  private toggle(device: Device): void {
    const chosen = new Set(this.chosen);
    if (!chosen.delete(device.id)) chosen.add(device.id);
    this.chosen = chosen;
  }

  private chooseUpdates(rows: Row[]): void {
    this.chosen = new Set(
      rows.filter((row) => row.update && !row.active).map((row) => row.device.id),
    );
  }

  private async forAll(rows: Row[], operation: Operation): Promise<void> {
    this.chosen = new Set();
    // One alone comes before those that were asked for together.
    const batch = rows.length > 1 ? `${Date.now()}-${Math.random()}` : undefined;
    for (const { device } of rows) await this.submit(device.id, operation, { batch });
  }

  private async cancelAll(rows: Row[]): Promise<void> {
    this.chosen = new Set();
    await Promise.all(
      rows.flatMap(({ job, active }) => (job && active ? [this.cancel(job)] : [])),
    );
  }

  static override styles = [
    ...Part.styles,
    css`
      .bar {
        margin-block: 4px 12px;
      }
      .bar input {
        flex: 1 1 200px;
        min-width: 0;
      }
      .selection {
        position: sticky;
        inset-block-start: var(--page-header);
        z-index: 1;
        padding: 8px 16px;
        margin-block-end: 12px;
      }
      .file {
        padding: 12px 16px;
        overflow-wrap: anywhere;
      }
    `,
  ];
}

function need({ device, job, active, update }: Row): number {
  if (active) return 0;
  if (job?.status === "failed") return 1;
  if (device.rivals.length) return 2;
  return update ? 3 : 4;
}

const matches = (device: Device, find: string): boolean =>
  [device.name, device.node_name, device.configuration, device.comment, device.platform].some(
    (value) => value?.toLowerCase().includes(find),
  );
