// Output while it grows: followed over lost connections, searched, copied, downloaded.

import { LitElement, css, html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";

import "./log-lines";
import { isAnother } from "./element";
import type { LogLines } from "./log-lines";
import { shared } from "./styles";
import { counted, isAnswer, textsOf } from "./texts";
import type { HomeAssistant, OutputEvent } from "./types";

/** Milliseconds without news after which it is asked for again. */
const SILENCE = 10_000;

@customElement("esphome-offload-log-view")
export class LogView extends LitElement {
  @property({ attribute: false, hasChanged: isAnother }) hass!: HomeAssistant;
  /** The command to follow the output, as JSON, without the line to begin with. */
  @property() command = "";
  @property() device = "";
  /** What the file of a download is called. */
  @property() name = "";
  @property({ type: Boolean }) live = false;
  @state() private find = "";
  @state() private found = 0;
  @state() private wrap = matchMedia("(max-width: 600px)").matches;
  @state() private following = true;
  @state() private copied = false;
  @state() private current = -1;
  @query("esphome-offload-log-lines") private log?: LogLines;

  private connection?: HomeAssistant["connection"];
  private nextLine = 0;
  private ended = false;
  private heardAt = 0;
  private watch?: ReturnType<typeof setInterval>;
  private unsubscribe?: () => Promise<void> | void;
  /** Counts the subscriptions: what comes late from a former one is not shown. */
  private subscription = 0;

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
    if (changed.has("command") && this.command) {
      this.close();
      this.connection = this.hass.connection;
      this.open();
    }
  }

  showError(): void {
    if (this.log) this.show(this.log.lastError());
  }

  private open(): void {
    this.nextLine = 0;
    this.ended = false;
    this.current = -1;
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
    this.subscription += 1;
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
    this.subscription += 1;
    const mine = this.subscription;
    this.heardAt = Date.now();
    this.end();
    try {
      const end = await this.connection.subscribeMessage<OutputEvent>(
        (event) => {
          if (mine === this.subscription) this.received(event);
        },
        { ...(JSON.parse(this.command) as object), from_line: this.nextLine },
        { resubscribe: false },
      );
      if (mine === this.subscription) this.unsubscribe = end;
      else void Promise.resolve(end()).catch(() => undefined);
    } catch (error) {
      // Else it is asked again when the connection is back.
      if (mine === this.subscription && isAnswer(error)) {
        this.ended = true;
        this.dispatchEvent(new CustomEvent("missing", { detail: error.message }));
      }
    }
  }

  private received(event: OutputEvent): void {
    this.heardAt = Date.now();
    if (event.first_line > this.nextLine && event.lines.length) {
      this.log?.add([
        `== ${counted(this.hass, "log.dropped", event.first_line - this.nextLine)}`,
      ]);
    }
    this.log?.add(event.lines);
    this.nextLine = event.next_line;
    this.ended = event.terminal;
    if (this.find) this.found = this.hits().length;
    this.dispatchEvent(new CustomEvent("output", { detail: event }));
  }

  protected override render(): TemplateResult {
    const text = textsOf(this.hass);
    return html`
      <div class="tools row">
        <input
          type="search"
          aria-label=${text("log.search")}
          placeholder=${text("log.search")}
          .value=${this.find}
          @input=${(event: Event) => this.searched((event.target as HTMLInputElement).value)}
          @keydown=${(event: KeyboardEvent) => {
            if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
          }}
        />
        ${this.find ? this.results() : nothing}
        <label class="row"
          ><input
            type="checkbox"
            .checked=${this.wrap}
            @change=${() => (this.wrap = !this.wrap)}
          />${text("log.wrap")}</label
        >
        <button @click=${this.copy}>${text(this.copied ? "log.copied" : "log.copy")}</button>
        <button @click=${this.download}>${text("log.download")}</button>
        ${this.live ? html`<span class="badge live">${text("log.live")}</span>` : nothing}
      </div>
      <div class="frame card">
        <esphome-offload-log-lines
          .label=${text("log.of", { device: this.device })}
          .find=${this.find}
          .current=${this.current}
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

  private results(): TemplateResult {
    const text = textsOf(this.hass);
    const at = this.hits().indexOf(this.current) + 1;
    return html`<span role="status" class="muted"
        >${text("log.found", { at, count: this.found })}</span
      >
      <button class="plain" aria-label=${text("log.previous")} @click=${() => this.step(-1)}>
        <span aria-hidden="true">↑</span>
      </button>
      <button class="plain" aria-label=${text("log.next")} @click=${() => this.step(1)}>
        <span aria-hidden="true">↓</span>
      </button>`;
  }

  private hits(): number[] {
    return this.log?.linesWith(this.find.trim().toLowerCase()) ?? [];
  }

  private searched(find: string): void {
    this.find = find;
    this.current = -1;
    this.found = this.hits().length;
  }

  /** Go to the next match, or the one before; the first is the newest. */
  private step(by: 1 | -1): void {
    const matches = this.hits();
    if (!matches.length) return;
    const at = matches.indexOf(this.current);
    const to = at < 0 ? matches.length - 1 : (at + by + matches.length) % matches.length;
    this.show(matches[to]!);
  }

  private show(line: number): void {
    this.current = line;
    void this.log?.show(line);
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
    const content = `${(this.log?.lines ?? []).join("\n")}\n`;
    const url = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${this.name}.log`;
    link.click();
    URL.revokeObjectURL(url);
  }

  static override styles = [
    shared,
    css`
      :host {
        display: flex;
        flex-direction: column;
        flex: 1;
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
    `,
  ];
}
