// The jobs: those that go on or wait, and apart from them those that have ended.

import { css, html, nothing, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";

import "./job-row";
import { Part } from "./element";
import { isOver, type Job } from "./types";

const SHOWN = 25;

@customElement("esphome-offload-jobs")
export class OffloadJobs extends Part {
  @state() private shown = SHOWN;

  protected override render(): TemplateResult {
    const { text } = this;
    const jobs = this.store.sortedJobs();
    // In the order in which they will be done.
    const active = jobs.filter((job) => !isOver(job)).reverse();
    const recent = jobs.filter(isOver);
    return html`
      <h2 id="active">${text("jobs.active")}</h2>
      ${active.length
        ? this.list("active", active)
        : html`<p class="muted">${text("jobs.none_active")}</p>`}
      <h2 id="recent">${text("jobs.recent")}</h2>
      ${recent.length
        ? this.list("recent", recent.slice(0, this.shown))
        : html`<p class="muted">${text("jobs.none_recent")}</p>`}
      ${recent.length > this.shown
        ? html`<p class="more">
            <button @click=${() => (this.shown += SHOWN)}>${text("jobs.more")}</button>
          </p>`
        : nothing}
    `;
  }

  private list(heading: string, jobs: Job[]): TemplateResult {
    return html`<ul class="card" aria-labelledby=${heading}>
      ${repeat(
        jobs,
        (job) => job.job_id,
        (job) => html`<li>
          <esphome-offload-job-row
            .hass=${this.hass}
            .store=${this.store}
            .job=${job}
          ></esphome-offload-job-row>
        </li>`,
      )}
    </ul>`;
  }

  static override styles = [
    ...Part.styles,
    css`
      .more {
        text-align: center;
        margin-block: 12px;
      }
    `,
  ];
}
