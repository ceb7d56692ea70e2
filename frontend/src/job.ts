// One job: where it stands, why it is built there, and its output while it grows.

import { css, html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";

import "./log-lines";
import { PAGE, Part, follow, jobPath } from "./element";
import type { LogLines } from "./log-lines";
import { counted, duration, errorText, isAnswer, stageText } from "./texts";
import { isOver, type HomeAssistant, type Job, type LogEvent } from "./types";

/** Milliseconds without news of a job after which it is asked for again. */
const SILENCE = 10_000;

@customElement("esphome-offload-job")
export class OffloadJob extends Part {
  @property() jobId = "";
  @state() private job?: Job;
  @state() private missing = "";
  @state() private find = "";
  @state() private wrap = matchMedia("(max-width: 600px)").matches;
  @state() private following = true;
  @state() private copied = false;
  @query("esphome-offload-log-lines") private log?: LogLines;

  private connection?: HomeAssistant["connection"];
  private nextLine = 0;
  private ended = false;
  private heardAt = 0;
  private watch?: ReturnType<typeof setInterval>;
  private unsubscribe?: () => Promise<void> | void;
  /** Counts the subscriptions: what comes late from a former one is not shown. */
  private current = 0;

  private readonly again = (): void => void this.subscribe();

  override connectedCallback(): void {
    super.connectedCallback();
    if (this.connection) this.open();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.close();
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has("jobId") && this.jobId) {
      this.close();
      this.connection = this.hass.connection;
      this.open();
    }
  }

  private open(): void {
    this.job = this.store.jobs.get(this.jobId);
    this.missing = "";
    this.nextLine = 0;
    this.ended = false;
    this.log?.clear();
    // After a lost connection from the line after the last one, so that none is lost or doubled.
    this.connection?.addEventListener("ready", this.again);
    // What is asked while a connection is just closing is never answered.
    this.watch = setInterval(() => {
      if (Date.now() - this.heardAt > SILENCE) this.again();
    }, SILENCE / 2);
    void this.subscribe();
  }

  private close(): void {
    this.current += 1;
    clearInterval(this.watch);
    this.connection?.removeEventListener("ready", this.again);
    this.end();
  }

  private end(): void {
    void Promise.resolve(this.unsubscribe?.()).catch(() => undefined);
    this.unsubscribe = undefined;
  }

  private async subscribe(): Promise<void> {
    if (this.ended || !this.connection) return;
    this.current += 1;
    const mine = this.current;
    this.heardAt = Date.now();
    this.end();
    try {
      const end = await this.connection.subscribeMessage<LogEvent>(
        (event) => {
          if (mine === this.current) this.received(event);
        },
        { type: "esphome_offload/job/follow", job_id: this.jobId, from_line: this.nextLine },
        { resubscribe: false },
      );
      if (mine === this.current) this.unsubscribe = end;
      else void Promise.resolve(end()).catch(() => undefined);
    } catch (error) {
      // Else it is asked again when the connection is back.
      if (mine === this.current && isAnswer(error)) this.missing = errorText(error);
    }
  }

  private received(event: LogEvent): void {
    this.heardAt = Date.now();
    this.job = event.job;
    if (event.first_line > this.nextLine && event.lines.length) {
      this.log?.add([
        `== ${counted(this.hass, "log.dropped", event.first_line - this.nextLine)}`,
      ]);
    }
    this.log?.add(event.lines);
    this.nextLine = event.next_line;
    this.ended = event.terminal;
  }

  protected override render(): TemplateResult {
    const { text, job } = this;
    if (this.missing) {
      return html`<p class="notice" role="alert">${this.missing}</p>
        <p><a href="${PAGE}/jobs" @click=${follow}>${text("tab.jobs")}</a></p>`;
    }
    return html`
      ${job ? this.head(job) : html`<p class="muted">${text("loading")}</p>`}
      <div class="tools row">
        <input
          type="search"
          aria-label=${text("log.search")}
          placeholder=${text("log.search")}
          .value=${this.find}
          @input=${(event: Event) => (this.find = (event.target as HTMLInputElement).value)}
        />
        <label class="row"
          ><input
            type="checkbox"
            .checked=${this.wrap}
            @change=${() => (this.wrap = !this.wrap)}
          />${text("log.wrap")}</label
        >
        <button @click=${this.copy}>${text(this.copied ? "log.copied" : "log.copy")}</button>
        <button @click=${this.download}>${text("log.download")}</button>
        ${job && !isOver(job)
          ? html`<span class="badge live">${text("log.live")}</span>`
          : nothing}
      </div>
      <div class="frame card">
        <esphome-offload-log-lines
          .label=${text("log.of", { device: job?.device_name ?? "" })}
          .find=${this.find}
          ?wrap=${this.wrap}
          @following=${(event: CustomEvent<boolean>) => (this.following = event.detail)}
        ></esphome-offload-log-lines>
        ${this.following
          ? nothing
          : html`<button class="primary to-end" @click=${() => this.log?.followAgain()}>
              ${text("log.to_end")}
            </button>`}
      </div>
    `;
  }

  private head(job: Job): TemplateResult {
    const { text } = this;
    const over = isOver(job);
    return html`
      <div class="head">
        <h2>
          ${text("job_of", {
            operation: text(`operation.${job.operation}`),
            device: job.device_name,
            version: job.esphome_version,
          })}
        </h2>
        <div class="row" aria-live="polite">
          <span class="badge ${job.status}">${stageText(text, job)}</span>
          ${job.progress !== null && !over ? html`<span>${job.progress} %</span>` : nothing}
          ${job.source_label
            ? html`<span class="muted">${text("on_builder", { builder: job.source_label })}</span>`
            : nothing}
          <span class="muted">${duration(text, job.seconds)}</span>
        </div>
        ${over || !job.in_progress
          ? nothing
          : html`<progress
              max="100"
              value=${job.progress ?? nothing}
              aria-label=${text("progress_of", { device: job.device_name })}
            ></progress>`}
        ${job.error ? html`<p class="notice" role="alert">${job.error}</p>` : nothing}
        ${job.waiting_for || job.message
          ? html`<p class="notice info">${job.message ?? job.waiting_for}</p>`
          : nothing}
        ${this.why(job)}
        <div class="row">
          ${over
            ? html`<button class="primary" @click=${() => this.retry(job)}>
                ${text(job.status === "completed" ? "again" : "retry")}
              </button>`
            : html`<button class="danger" @click=${() => this.cancel(job)}>
                ${text("cancel")}
              </button>`}
          ${job.status !== "completed" &&
          job.source !== "local" && job.operation !== "upload" && this.canBuildHere
            ? html`<button @click=${() => this.buildHere(job)}>${text("build_here")}</button>`
            : nothing}
        </div>
      </div>
    `;
  }

  private why(job: Job): TemplateResult | typeof nothing {
    const others = Object.entries(job.why_not);
    if (!job.routing_reason && !others.length) return nothing;
    return html`<details>
      <summary>${this.text("why_builder")}</summary>
      ${job.routing_reason ? html`<p>${job.routing_reason}</p>` : nothing}
      <ul>
        ${others.map(([label, why]) => html`<li>${label}: ${why}</li>`)}
      </ul>
    </details>`;
  }

  private get canBuildHere(): boolean {
    return !!this.store.overview?.builders.find((each) => each.id === "local")?.available;
  }

  private async buildHere(job: Job): Promise<void> {
    if (!isOver(job)) await this.cancel(job);
    const again = await this.submit(job.target, job.operation, {
      version: job.esphome_version,
      source: "local",
      clean: job.clean,
    });
    if (again) this.go(jobPath(again));
  }

  private async copy(): Promise<void> {
    const content = (this.log?.lines ?? []).join("\n");
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(content);
    } else {
      // Without https a browser has no clipboard but this one.
      const area = document.createElement("textarea");
      area.value = content;
      this.renderRoot.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    this.copied = true;
    setTimeout(() => (this.copied = false), 2000);
  }

  private download(): void {
    const name = `${this.job?.device_name ?? "esphome"}-${this.jobId.slice(0, 12)}.log`;
    const content = `${(this.log?.lines ?? []).join("\n")}\n`;
    const url = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    URL.revokeObjectURL(url);
  }

  static override styles = [
    ...Part.styles,
    css`
      :host {
        display: flex;
        flex-direction: column;
        min-height: calc(100vh - 160px);
      }
      .head {
        display: grid;
        gap: 8px;
      }
      h2 {
        margin-block: 4px 0;
        overflow-wrap: anywhere;
      }
      .notice {
        margin-block: 0;
      }
      .tools {
        margin-block: 12px 8px;
      }
      .tools input[type="search"] {
        flex: 1 1 160px;
        min-width: 0;
      }
      .live {
        color: var(--page-accent);
      }
      .frame {
        position: relative;
        flex: 1;
        min-height: 300px;
        height: 50vh;
      }
      esphome-offload-log-lines {
        position: absolute;
        inset: 0;
      }
      .to-end {
        position: absolute;
        inset-block-end: 12px;
        inset-inline-end: 20px;
      }
      summary {
        cursor: pointer;
      }
    `,
  ];
}
