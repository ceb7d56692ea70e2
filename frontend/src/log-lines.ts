// The lines of a log in chunks that the browser skips while they are out of sight: twenty thousand
// lines scroll as smoothly as twenty.

import { css, html, type TemplateResult } from "lit";
import { customElement, property, query } from "lit/decorators.js";
import { LitElement } from "lit";
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

  protected override render(): TemplateResult {
    this.style.containIntrinsicBlockSize = `auto ${this.lines.length * LINE_HEIGHT}px`;
    return html`${this.lines.map((line) => html`<div class=${kind(line)}>${this.marked(line)}</div>`)}`;
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
    .own {
      color: var(--page-accent);
      font-weight: 600;
    }
    mark {
      background: var(--page-button);
      color: #fff;
    }
  `;
}

@customElement("esphome-offload-log-lines")
export class LogLines extends LitElement {
  @property({ type: Boolean, reflect: true }) wrap = false;
  @property() find = "";
  @property() label = "";
  @query(".scroll") private scroller!: HTMLElement;

  /** Whether new lines are followed: until the person scrolls up, and again at the end. */
  following = true;

  private chunks: Chunk[] = [];
  private count = 0;

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
    this.following = true;
    this.toEnd();
  }

  protected override updated(): void {
    if (this.following) this.toEnd();
  }

  /** Only what is laid out has its real height: look again when it has been. */
  private toEnd(): void {
    const end = (): void => {
      this.scroller.scrollTop = this.scroller.scrollHeight;
    };
    end();
    requestAnimationFrame(end);
  }

  private scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const following = scrollHeight - scrollTop - clientHeight < 2 * LINE_HEIGHT;
    if (following !== this.following) {
      this.following = following;
      this.dispatchEvent(new CustomEvent("following", { detail: following }));
    }
  }

  protected override render(): TemplateResult {
    const find = this.find.trim().toLowerCase();
    return html`<div
      class="scroll"
      tabindex="0"
      role="log"
      aria-label=${this.label}
      @scroll=${this.scrolled}
    >
      ${repeat(
        this.chunks,
        (chunk) => chunk.key,
        (chunk) =>
          html`<esphome-offload-log-chunk
            .lines=${chunk.lines}
            .length=${chunk.lines.length}
            .find=${find}
          ></esphome-offload-log-chunk>`,
      )}
    </div>`;
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

function kind(line: string): string {
  if (line.startsWith("== ")) return "own";
  if (/^(ERROR|FAILED)\b|\b(fatal )?error:/.test(line)) return "error";
  if (/^WARNING\b|\bwarning:/.test(line)) return "warning";
  return "";
}
