// The lines of a log in chunks that the browser skips while they are out of sight: twenty thousand
// lines scroll as smoothly as twenty.

import { LitElement, css, html, type TemplateResult } from "lit";
import { customElement, property, query } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";

import { shared } from "./styles";

const CHUNK = 200;
const LINE_HEIGHT = 18;

interface Chunk {
  key: number;
  lines: string[];
}

@customElement("esphome-offload-log-chunk")
export class LogChunk extends LitElement {
  @property({ attribute: false }) lines: string[] = [];
  @property({ type: Number }) length = 0;
  @property() find = "";
  /** The line of the match that was gone to, counted from the first of these. */
  @property({ type: Number }) current = -1;

  lineAt(index: number): Element | undefined {
    return this.renderRoot.children[index];
  }

  protected override render(): TemplateResult {
    this.style.containIntrinsicBlockSize = `auto ${this.lines.length * LINE_HEIGHT}px`;
    return html`${this.lines.map(
      (line, index) =>
        html`<div class="${kind(line)}${index === this.current ? " current" : ""}"
          >${this.marked(line)}</div
        >`,
    )}`;
  }

  private marked(line: string): TemplateResult | string {
    const at = this.find ? line.toLowerCase().indexOf(this.find) : -1;
    if (at < 0) return line || " ";
    const end = at + this.find.length;
    return html`${line.slice(0, at)}<mark>${line.slice(at, end)}</mark>${line.slice(end)}`;
  }

  static override styles = css`
    :host {
      display: block;
      content-visibility: auto;
    }
    div {
      min-height: ${LINE_HEIGHT}px;
      line-height: ${LINE_HEIGHT}px;
    }
    .error {
      color: var(--page-error);
    }
    .warning {
      color: var(--page-warning);
    }
    .info {
      color: var(--page-success);
    }
    .debug {
      color: var(--page-accent);
    }
    .step {
      color: var(--secondary-text-color);
    }
    .own {
      color: var(--page-accent);
      font-weight: 600;
    }
    mark {
      background: var(--page-button);
      color: var(--text-primary-color);
    }
    .current {
      outline: 2px solid var(--primary-color);
      outline-offset: -1px;
    }
  `;
}

@customElement("esphome-offload-log-lines")
export class LogLines extends LitElement {
  @property({ type: Boolean, reflect: true }) wrap = false;
  @property() find = "";
  @property() label = "";
  @property({ type: Number }) current = -1;
  @query(".scroll") private scroller!: HTMLElement;
  @query(".content") private content!: HTMLElement;

  /** Whether new lines are followed: until the person scrolls up, and again at the end. */
  following = true;

  private chunks: Chunk[] = [];
  private count = 0;

  /** Where the box was scrolled to at the last look. */
  private top = 0;

  /** What opens above makes the box smaller; chunks have their real height once they are in sight. */
  private readonly resized = new ResizeObserver(() => this.following && this.toEnd());

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.resized.disconnect();
  }

  override connectedCallback(): void {
    super.connectedCallback();
    if (this.hasUpdated) this.observe();
  }

  protected override firstUpdated(): void {
    this.observe();
  }

  private observe(): void {
    this.resized.observe(this);
    this.resized.observe(this.content);
  }

  get lines(): string[] {
    return this.chunks.flatMap((chunk) => chunk.lines);
  }

  add(lines: string[]): void {
    for (const line of lines) {
      let last = this.chunks.at(-1);
      if (last === undefined || last.lines.length >= CHUNK) {
        last = { key: this.count, lines: [] };
        this.chunks.push(last);
      }
      last.lines.push(line);
      this.count += 1;
    }
    this.requestUpdate();
  }

  clear(): void {
    this.chunks = [];
    this.count = 0;
    this.following = true;
    this.requestUpdate();
  }

  followAgain(): void {
    this.setFollowing(true);
    this.toEnd();
  }

  /** The numbers of the lines in which something stands, in lower case. */
  linesWith(find: string): number[] {
    if (!find) return [];
    const found: number[] = [];
    this.lines.forEach((line, index) => {
      if (line.toLowerCase().includes(find)) found.push(index);
    });
    return found;
  }

  /** The number of the last line that is an error, else of that which says how it ended. */
  lastError(): number {
    const at = this.lines.findLastIndex((line) => kind(line) === "error");
    return at < 0 ? this.count - 1 : at;
  }

  async show(line: number): Promise<void> {
    this.setFollowing(false);
    this.current = line;
    await this.updateComplete;
    const chunks = this.renderRoot.querySelectorAll<LogChunk>("esphome-offload-log-chunk");
    const chunk = chunks[Math.floor(line / CHUNK)];
    await chunk?.updateComplete;
    chunk?.lineAt(line % CHUNK)?.scrollIntoView({ block: "center", inline: "nearest" });
  }

  protected override updated(): void {
    if (this.following) this.toEnd();
  }

  private toEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Only a move up is a person's: that the end is further away may come of new lines, too. */
  private scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (scrollHeight - scrollTop - clientHeight < 2 * LINE_HEIGHT) this.setFollowing(true);
    else if (scrollTop < this.top) this.setFollowing(false);
    this.top = scrollTop;
  }

  private setFollowing(following: boolean): void {
    if (following === this.following) return;
    this.following = following;
    this.dispatchEvent(new CustomEvent("following", { detail: following }));
  }

  protected override render(): TemplateResult {
    const find = this.find.trim().toLowerCase();
    return html`<div
      class="scroll"
      tabindex="0"
      role="log"
      aria-label=${this.label}
      @scroll=${this.scrolled}
      ><div class="content"
        >${repeat(
          this.chunks,
          (chunk) => chunk.key,
          (chunk) =>
            html`<esphome-offload-log-chunk
              .lines=${chunk.lines}
              .length=${chunk.lines.length}
              .find=${find}
              .current=${this.current - chunk.key}
            ></esphome-offload-log-chunk>`,
        )}</div
      ></div
    >`;
  }

  static override styles = [
    shared,
    css`
      :host {
        display: block;
        min-height: 0;
      }
      .scroll {
        height: 100%;
        overflow: auto;
        padding: 8px 12px;
        font-family: var(--ha-font-family-code, ui-monospace, monospace);
        font-size: 0.8rem;
        white-space: pre;
        direction: ltr;
        text-align: left;
      }
      :host([wrap]) .scroll {
        white-space: pre-wrap;
        overflow-wrap: anywhere;
      }
    `,
  ];
}

/** The colors that ESPHome gives a line in a terminal, by its level; the tools' have none. */
function kind(line: string): string {
  if (line.startsWith("== ")) return "own";
  if (/^(ERROR|FAILED|Failed config)\b|\b(fatal )?error:|\[FAILED\]/.test(line)) return "error";
  if (/^WARNING\b|\bwarning:/.test(line)) return "warning";
  if (/^INFO\b|\[SUCCESS\]/.test(line)) return "info";
  if (/^DEBUG\b/.test(line)) return "debug";
  if (/^(Compiling|Linking|Archiving|Indexing|Building|Generating|\[\d+\/\d+\]) /.test(line)) {
    return "step";
  }
  return "";
}
