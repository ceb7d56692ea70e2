// The builders that build for this instance, with what is built and waits there; below them what
// this instance builds for others.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement } from "lit/decorators.js";
import { live } from "lit/directives/live.js";

import "./guests";
import { INTEGRATION, PAGE, Part, follow, jobPath } from "./element";
import { counted, number, standing } from "./texts";
import { isOver, type Builder } from "./types";

const ADD = "/config/integrations/dashboard/add?domain=esphome_offload";

@customElement("esphome-offload-builders")
export class OffloadBuilders extends Part {
  protected override render(): TemplateResult {
    const { text } = this;
    const overview = this.store.overview;
    return html`
      <div class="row heading">
        <h2 id="builders">${text("builders.title")}</h2>
        <a class="button" href=${ADD} @click=${follow}>${text("builders.add")}</a>
      </div>
      <ul class="card" aria-labelledby="builders">
        ${overview?.builders.map((builder) => html`<li class="item">${this.builder(builder)}</li>`)}
        ${[...this.store.discovered.values()].map(
          (label) => html`<li class="item">${this.discovered(label)}</li>`,
        )}
      </ul>
      <h2>${text("guests.title")}</h2>
      <esphome-offload-guests
        .hass=${this.hass}
        .store=${this.store}
        .revision=${this.revision}
      ></esphome-offload-guests>
    `;
  }

  private builder(builder: Builder): TemplateResult {
    const { text } = this;
    const state = !builder.connected ? "disconnected" : builder.available ? "ready" : "not_now";
    const facts = [
      builder.versions.length ? `ESPHome ${builder.versions.join(", ")}` : "",
      builder.disk_mib === null
        ? ""
        : text("builders.free", { gib: number(this.hass, builder.disk_mib / 1024, 1) }),
      builder.cache_files
        ? text("builders.cache", {
            percent: Math.round((100 * builder.cache_hits) / builder.cache_files),
            files: number(this.hass, builder.cache_files),
          })
        : "",
    ];
    return html`
      <div class="row">
        <h3>${builder.id === "local" ? text("builders.local") : builder.label}</h3>
        <span class="badge ${state === "ready" ? "completed" : "failed"}"
          >${text(`builders.${state}`)}</span
        >
      </div>
      ${builder.program || builder.url
        ? html`<p class="muted">
            ${builder.program ? text(`program.${builder.program}`) : nothing} ${builder.url ?? ""}
          </p>`
        : nothing}
      ${builder.used === null
        ? nothing
        : html`<label class="row">
            <input
              type="checkbox"
              role="switch"
              .checked=${live(builder.used)}
              @change=${() => this.use(builder)}
            />
            ${text("builders.use")}<span class="hidden"> ${builder.label}</span>
          </label>`}
      ${builder.why_not ? html`<p class="muted">${builder.why_not}</p>` : nothing}
      ${builder.connected
        ? html`<p>
            ${text("builders.slots", {
              busy: builder.busy,
              slots: builder.slots,
              queued: builder.queued,
            })}
          </p>`
        : nothing}
      ${this.builds(builder)}
      <p class="muted">${facts.filter(Boolean).join(" · ")}</p>
    `;
  }

  /** A dialog of Home Assistant has no address: its page of the integration offers it. */
  private discovered(label: string): TemplateResult {
    const { text } = this;
    return html`<div class="row heading">
      <div class="grow">
        <h3>${label}</h3>
        <span class="muted">${text("builders.discovered")}</span>
      </div>
      <a class="button" href=${INTEGRATION} @click=${follow}
        >${text("builders.pair")}<span class="hidden"> ${label}</span></a
      >
    </div>`;
  }

  /** One that is refused is shown as it was. */
  private async use(builder: Builder): Promise<void> {
    const answer = await this.command({
      type: "esphome_offload/builder/use",
      builder: builder.id,
      use: !builder.used,
    });
    if (answer === undefined) this.requestUpdate();
  }

  /** What is built and waits there, and whose it is. */
  private builds(builder: Builder): TemplateResult {
    const { text } = this;
    const local = builder.id === "local";
    const ours = this.store
      .sortedJobs()
      .filter(
        (job) =>
          !isOver(job) &&
          BUILDING.has(job.stage ?? "") &&
          (local ? job.source === "local" : job.source_pin_sha256 === builder.id),
      )
      .reverse();
    const guests = local ? (this.store.overview?.lending.guests ?? []) : [];
    const theirs = guests.flatMap((guest) =>
      guest.builds.filter((build) => !build.over).map((build) => ({ guest, build })),
    );
    const others = builder.connected
      ? Math.max(0, builder.busy + builder.queued - ours.length - theirs.length)
      : 0;
    return html`<ul class="builds">
      ${ours.map(
        (job) => html`<li>
          <a href=${jobPath(job)} @click=${follow}>${this.store.nameOf(job)}</a>
          <span class="muted">${standing(text, job)}</span>
        </li>`,
      )}
      ${theirs.map(
        ({ guest, build }) => html`<li>
          <a href="${PAGE}/guest/${guest.pin_sha256}/${build.attempt_id}" @click=${follow}
            >${build.configuration}</a
          >
          <span class="muted"
            >${text("builders.build_for", {
              stage: text(`attempt.${build.state}`),
              guest: guest.label,
            })}</span
          >
        </li>`,
      )}
      ${others && !local
        ? html`<li class="muted">${counted(this.hass, "builders.others", others)}</li>`
        : nothing}
    </ul>`;
  }

  static override styles = [
    ...Part.styles,
    css`
      .heading {
        justify-content: space-between;
      }
      .item {
        display: grid;
        gap: 4px;
        padding: 12px 16px;
        overflow-wrap: anywhere;
      }
      .builds {
        display: grid;
        gap: 4px;
        padding-inline-start: 12px;
      }
    `,
  ];
}

/** The stages in which a job is at its builder. */
const BUILDING = new Set(["preparing", "downloading", "compiling", "fetching"]);
