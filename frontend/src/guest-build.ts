// One build for a guest: where it stands, and its output.

import { css, html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";

import "./log-view";
import { PAGE, Part, follow } from "./element";
import type { GuestBuild, GuestLogEvent } from "./types";

@customElement("esphome-offload-guest-build")
export class OffloadGuestBuild extends Part {
  @property() pin = "";
  @property() attemptId = "";
  @state() private build?: GuestBuild;
  @state() private missing = "";

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (!changed.has("pin") && !changed.has("attemptId")) return;
    this.build = undefined;
    this.missing = "";
  }

  protected override render(): TemplateResult {
    const { text, build } = this;
    const guest = this.store.overview?.lending.guests.find((each) => each.pin_sha256 === this.pin);
    const back = html`<p>
      <a href="${PAGE}/builders" @click=${follow}>${text("tab.builders")}</a>
    </p>`;
    if (this.missing) return html`<p class="notice" role="alert">${this.missing}</p>${back}`;
    return html`
      ${build
        ? html`<h2>
              ${text("guest_build", {
                configuration: build.configuration,
                version: build.esphome_version,
                guest: guest?.label ?? "",
              })}
            </h2>
            <div class="row">
              <span class="badge ${build.state}"
                ><span role="status">${text(`attempt.${build.state}`)}</span>${build.progress === null
                  ? ""
                  : ` · ${build.progress} %`}</span
              >
              ${build.over
                ? nothing
                : html`<button class="danger" @click=${this.stop}>${text("guests.stop")}</button>`}
            </div>
            ${build.reason ? html`<p class="notice" role="alert">${build.reason}</p>` : nothing}`
        : html`<p class="muted" role="status">${text("loading")}</p>`}
      <esphome-offload-log-view
        .hass=${this.hass}
        .command=${JSON.stringify({
          type: "esphome_offload/guest_build/follow",
          pin_sha256: this.pin,
          attempt_id: this.attemptId,
        })}
        .device=${build?.device_name ?? ""}
        .name="${build?.device_name ?? "esphome"}-${this.attemptId.slice(0, 12)}"
        ?live=${!!build && !build.over}
        @output=${(event: CustomEvent<GuestLogEvent>) => (this.build = event.detail.build)}
        @missing=${(event: CustomEvent<string>) => (this.missing = event.detail)}
      ></esphome-offload-log-view>
    `;
  }

  private stop(): void {
    void this.command({
      type: "esphome_offload/guest_build/stop",
      pin_sha256: this.pin,
      attempt_id: this.attemptId,
    });
  }

  static override styles = [
    ...Part.styles,
    css`
      :host {
        display: flex;
        flex-direction: column;
        min-height: calc(100vh - 160px);
      }
      h2 {
        margin-block: 4px 8px;
        overflow-wrap: anywhere;
      }
    `,
  ];
}
