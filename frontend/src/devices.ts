// The devices: what each runs, what it should, and what can be done, those in need first.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";

import "./dialog";
import { Part, follow, jobPath } from "./element";
import { counted, stageText } from "./texts";
import { isOver, type Device, type Job, type Operation } from "./types";

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
  @state() private more?: Device;
  @state() private busy = new Set<string>();

  protected override render(): TemplateResult {
    const { text } = this;
    const rows = this.rows();
    const find = this.search.trim().toLowerCase();
    const shown = rows.filter((row) => matches(row.device, find));
    const chosen = shown.filter((row) => this.chosen.has(row.device.id));
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
        ${chosen.length
          ? html`<button
              class="primary"
              @click=${() => this.install(chosen.map((row) => row.device))}
            >
              ${counted(this.hass, "devices.install_chosen", chosen.length)}
            </button>`
          : html`<button
              ?disabled=${!shown.some((row) => row.update && !row.active)}
              @click=${() => this.chooseUpdates(shown)}
            >
              ${text("devices.choose_updates")}
            </button>`}
      </div>
      ${shown.length
        ? html`<ul class="card" aria-label=${text("tab.devices")}>
            ${repeat(
              shown,
              (row) => row.device.id,
              (row) => html`<li>${this.row(row)}</li>`,
            )}
          </ul>`
        : rows.length
          ? html`<p class="muted">${text("devices.none_found")}</p>`
          : nothing}
      ${this.unreadable()} ${this.more ? this.dialog(this.more) : nothing}
    `;
  }

  private rows(): Row[] {
    return [...this.store.devices.values()]
      .map((device) => {
        const job = this.store.jobOf(device);
        return { device, job, active: !!job && !isOver(job), update: device.update && canInstall(device) };
      })
      .sort((a, b) => need(a) - need(b) || a.device.name.localeCompare(b.device.name));
  }

  private row({ device, job, active, update }: Row): TemplateResult {
    const { text } = this;
    const busy = this.busy.has(device.id);
    return html`<div class="device">
      <input
        type="checkbox"
        aria-label=${text("devices.choose", { device: device.name })}
        ?disabled=${!canInstall(device)}
        .checked=${this.chosen.has(device.id)}
        @change=${() => this.toggle(device)}
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
        ${active && job?.in_progress
          ? html`<progress
              max="100"
              value=${job.progress ?? nothing}
              aria-label=${text("progress_of", { device: device.name })}
            ></progress>`
          : nothing}
        ${device.rivals.length
          ? html`<p class="muted">
              ${text("devices.unclear", { rivals: device.rivals.join(", ") })}
              <a href="/config/repairs" @click=${follow}>${text("devices.decide")}</a>
            </p>`
          : nothing}
        ${job && !active && job.status === "failed" && job.error
          ? html`<p class="muted">${job.error}</p>`
          : nothing}
        ${device.over_the_air ? nothing : html`<p class="muted">${text("devices.no_ota")}</p>`}
      </div>
      <div class="row actions">
        ${active && job
          ? html`<button class="danger" @click=${() => this.cancel(job)}>${text("cancel")}</button>`
          : html`<button
              class=${update ? "primary" : ""}
              ?disabled=${busy || !canInstall(device)}
              @click=${() => this.installOne(device)}
            >
              ${text(update ? "devices.install" : "devices.install_again")}
            </button>`}
        ${job
          ? html`<a class="button" href=${jobPath(job)} @click=${follow}
              >${text("log.open")}<span class="hidden"> ${device.name}</span></a
            >`
          : nothing}
        <button
          class="plain"
          aria-haspopup="dialog"
          aria-label=${text("devices.more_of", { device: device.name })}
          @click=${() => (this.more = device)}
        >
          <span aria-hidden="true">⋮</span>
        </button>
      </div>
    </div>`;
  }

  private presence(device: Device): string {
    if (device.online === null) return this.text("devices.unknown_to_home_assistant");
    if (device.online) return this.text("devices.online");
    return this.text(device.deep_sleep ? "devices.asleep" : "devices.offline");
  }

  private versions(device: Device): string {
    const { installed_version: from, wanted_version: to } = device;
    if (!from) return to ? `? → ${to}` : "?";
    return to && from !== to ? `${from} → ${to}` : from;
  }

  private badges(
    device: Device,
    job: Job | undefined,
    active: boolean,
    update: boolean,
  ): TemplateResult {
    const { text } = this;
    const percent = active && job?.progress != null ? ` ${job.progress} %` : "";
    return html`
      ${active && job
        ? html`<span class="badge">${stageText(text, job)}${percent}</span>`
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

  /** What was found, and what comes next: shown until there is a device and a builder. */
  private welcome(rows: Row[]): TemplateResult | typeof nothing {
    const { text } = this;
    const overview = this.store.overview;
    if (!overview) return nothing;
    if (!overview.set_up || overview.folder === null) {
      return html`<p class="notice info">
        ${text(overview.set_up ? "welcome.no_folder" : "welcome.not_set_up")}
        <a href="/config/integrations/integration/esphome_offload" @click=${follow}
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

  private dialog(device: Device): TemplateResult {
    const { text } = this;
    const builders = (this.store.overview?.builders ?? []).filter((each) => each.available);
    return html`<esphome-offload-dialog
      heading=${device.name}
      closeLabel=${text("close")}
      @closed=${() => (this.more = undefined)}
    >
      <form class="form" @submit=${(event: SubmitEvent) => this.installChosen(event, device)}>
        <label
          >${text("devices.version")}
          <input name="version" placeholder=${device.wanted_version ?? ""} autocomplete="off" />
        </label>
        <label
          >${text("devices.builder")}
          <select name="source">
            <option value="auto">${text("devices.automatic")}</option>
            ${builders.map((each) => html`<option value=${each.id}>${each.label}</option>`)}
          </select>
        </label>
        <label class="row"><input type="checkbox" name="clean" />${text("devices.clean_build")}</label>
        <div class="row">
          <button class="primary" name="operation" value="install">
            ${text("operation.install")}
          </button>
          <button name="operation" value="compile">${text("operation.compile")}</button>
        </div>
      </form>
      <div class="row other">
        <button @click=${() => this.act(device, "upload")}>${text("devices.upload")}</button>
        <button @click=${() => this.act(device, "clean")}>${text("devices.clean")}</button>
        ${device.device_id
          ? html`<a class="button" href="/config/devices/device/${device.device_id}"
              >${text("devices.page")}</a
            >`
          : nothing}
      </div>
    </esphome-offload-dialog>`;
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

  private async install(devices: Device[]): Promise<void> {
    this.chosen = new Set();
    // One alone comes before those that were asked for together.
    const batch = devices.length > 1 ? `${Date.now()}-${Math.random()}` : undefined;
    for (const device of devices) await this.submit(device.id, "install", { batch });
    this.requestUpdate();
  }

  /** The log opens by itself: it is what a person wants to see next. */
  private async installOne(device: Device): Promise<void> {
    this.busy = new Set(this.busy).add(device.id);
    const job = await this.submit(device.id, "install");
    this.busy = new Set([...this.busy].filter((id) => id !== device.id));
    if (job) this.go(jobPath(job));
  }

  private async installChosen(event: SubmitEvent, device: Device): Promise<void> {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    const version = String(fields.get("version") ?? "").trim();
    const operation = (event.submitter as HTMLButtonElement).value as Operation;
    this.more = undefined;
    const job = await this.submit(device.id, operation, {
      ...(version ? { version } : {}),
      source: String(fields.get("source") ?? "auto"),
      clean: fields.has("clean"),
    });
    if (job) this.go(jobPath(job));
  }

  private async act(device: Device, operation: Operation): Promise<void> {
    this.more = undefined;
    const job = await this.submit(device.id, operation);
    if (job) this.go(jobPath(job));
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
      .device {
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
      .file {
        padding: 12px 16px;
        overflow-wrap: anywhere;
      }
      .form,
      .form label:not(.row) {
        display: grid;
        gap: 6px;
      }
      .form {
        gap: 12px;
        margin-block: 12px;
      }
      .other {
        border-block-start: 1px solid var(--divider-color);
        padding-block-start: 12px;
      }
      @media (max-width: 600px) {
        .device {
          grid-template-columns: auto 1fr;
        }
        .actions {
          grid-column: 2;
        }
      }
    `,
  ];
}

const canInstall = (device: Device): boolean => device.over_the_air && !device.rivals.length;

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
