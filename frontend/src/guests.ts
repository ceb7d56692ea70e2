// This instance as a builder for others: whether it is one, the pairing code, the guests.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { live } from "lit/directives/live.js";

import { PAGE, Part, follow, settingsPath } from "./element";
import { counted, moment, number } from "./texts";
import type { Guest, GuestBuild } from "./types";

@customElement("esphome-offload-guests")
export class OffloadGuests extends Part {
  @state() private now = Date.now();
  private timer?: ReturnType<typeof setInterval>;

  override connectedCallback(): void {
    super.connectedCallback();
    this.timer = setInterval(() => {
      if (this.store.overview?.lending.code) this.now = Date.now();
    }, 1000);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.timer);
  }

  protected override render(): TemplateResult {
    const { text } = this;
    const lending = this.store.overview?.lending;
    if (!lending) return html``;
    const accepts = lending.accepts_builds;
    return html`
      ${lending.why_not
        ? html`<p class="muted">
            ${lending.why_not}
            <a href=${settingsPath(this.store)} @click=${follow}>${text("welcome.settings")}</a>
          </p>`
        : nothing}
      <div class="row">
        <label class="row">
          <input
            type="checkbox"
            role="switch"
            .checked=${live(accepts)}
            ?disabled=${lending.why_not !== null && !accepts}
            @change=${() => this.accept(!accepts)}
          />
          ${text("guests.accept")}
        </label>
        <span class="muted">${text(accepts ? "guests.on" : "guests.off")}</span>
        <span class="muted"
          >${text("guests.disk", { gib: number(this.hass, lending.disk_used / 2 ** 30, 1) })}</span
        >
        ${this.secondsLeft > 0 || !accepts || lending.why_not
          ? nothing
          : html`<button
              class="primary"
              @click=${() => this.command({ type: "esphome_offload/pairing/open" })}
            >
              ${text("guests.show_code")}
            </button>`}
      </div>
      ${this.code()}
      ${lending.guests.length
        ? html`<ul class="card guests" aria-label=${text("guests.title")}>
            ${lending.guests.map((guest) => html`<li class="item">${this.guest(guest)}</li>`)}
          </ul>`
        : html`<p class="muted">${text("guests.none")}</p>`}
    `;
  }

  /** One that is refused is shown as it was. */
  private async accept(accept: boolean): Promise<void> {
    const answer = await this.command({ type: "esphome_offload/accept_builds", accept });
    if (answer === undefined) this.requestUpdate();
  }

  /** How long the code is still valid, by the browser's clock; 0 or less without one. */
  private get secondsLeft(): number {
    const lending = this.store.overview?.lending;
    if (!lending?.code) return 0;
    const passed = (Math.max(this.now, this.store.overviewAt) - this.store.overviewAt) / 1000;
    return Math.ceil((lending.seconds_left ?? 0) - passed);
  }

  private code(): TemplateResult | typeof nothing {
    const { text } = this;
    const lending = this.store.overview?.lending;
    if (!lending?.code) return nothing;
    const left = this.secondsLeft;
    if (left <= 0) return html`<p class="notice info">${text("guests.code_expired")}</p>`;
    return html`<div class="code card">
      <p>${text("guests.code_help")}</p>
      <p class="digits" role="status">${lending.code.slice(0, 4)} ${lending.code.slice(4)}</p>
      <p class="muted" role="timer">
        ${text("guests.time_left", {
          time: `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`,
        })}
      </p>
      <button @click=${() => this.command({ type: "esphome_offload/pairing/close" })}>
        ${text("close")}
      </button>
    </div>`;
  }

  private guest(guest: Guest): TemplateResult {
    const { text } = this;
    const seen = guest.last_seen ? moment(this.hass, guest.last_seen) : text("guests.never");
    return html`
      <div class="row">
        <h3>${guest.label}</h3>
        <span class="badge"
          >${text(guest.connected ? "guests.connected" : "builders.disconnected")}</span
        >
      </div>
      <p class="muted">
        ${guest.connected ? nothing : text("guests.last_seen", { time: seen })}
        ${counted(this.hass, "guests.builds", guest.builds_completed)}
      </p>
      <ul>
        ${guest.builds.toReversed().map((build) => html`<li class="row">${this.build(guest, build)}</li>`)}
      </ul>
    `;
  }

  private build(guest: Guest, build: GuestBuild): TemplateResult {
    const { text } = this;
    return html`<span class="grow">${build.configuration} · ESPHome ${build.esphome_version}</span>
      <span class="badge ${build.state}"
        >${text(`attempt.${build.state}`)}${build.progress === null
          ? ""
          : ` · ${build.progress} %`}</span
      >
      <a
        class="button"
        href="${PAGE}/guest/${guest.pin_sha256}/${build.attempt_id}"
        @click=${follow}
        >${text("log.open")}<span class="hidden"> ${build.configuration}</span></a
      >
      ${build.over
        ? nothing
        : html`<button
            class="danger"
            @click=${() =>
              this.command({
                type: "esphome_offload/guest_build/stop",
                pin_sha256: guest.pin_sha256,
                attempt_id: build.attempt_id,
              })}
          >
            ${text("guests.stop")}<span class="hidden"> ${build.configuration}</span></button
          >`}`;
  }

  static override styles = [
    ...Part.styles,
    css`
      .guests {
        margin-block-start: 12px;
      }
      .item {
        display: grid;
        gap: 4px;
        padding: 12px 16px;
        overflow-wrap: anywhere;
      }
      .item ul {
        display: grid;
        gap: 8px;
      }
      .code {
        margin-block: 12px;
        padding: 16px;
        display: grid;
        justify-items: center;
        gap: 8px;
        text-align: center;
      }
      .digits {
        font-size: clamp(2rem, 12vw, 4rem);
        font-variant-numeric: tabular-nums;
        letter-spacing: 0.08em;
        direction: ltr;
      }
    `,
  ];
}
