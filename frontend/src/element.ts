// The base of all parts of the page.

import { LitElement } from "lit";
import { property } from "lit/decorators.js";

import { shared } from "./styles";
import type { Store } from "./store";
import { isAnswer, textsOf, type Text } from "./texts";
import type { HomeAssistant, Job, Operation } from "./types";

/** Home Assistant gives a new object at each change of a state, of which nothing is shown here. */
export const isAnother = (now?: HomeAssistant, before?: HomeAssistant): boolean =>
  now?.connection !== before?.connection ||
  now?.language !== before?.language ||
  now?.localize !== before?.localize ||
  now?.locale !== before?.locale;

export abstract class Part extends LitElement {
  static override styles = [shared];

  @property({ attribute: false, hasChanged: isAnother }) hass!: HomeAssistant;
  @property({ attribute: false }) store!: Store;
  /** Changes with what is in the store, which itself stays the same object. */
  @property({ attribute: false }) revision = 0;

  protected get text(): Text {
    return textsOf(this.hass);
  }

  protected go(path: string): void {
    navigate(path);
  }

  /** Send a command; an error is shown by the panel. Returns undefined when there was one. */
  protected async command<T>(message: Record<string, unknown>): Promise<T | undefined> {
    try {
      return await this.hass.callWS<T>(message);
    } catch (error) {
      this.dispatchEvent(
        new CustomEvent("page-error", {
          bubbles: true,
          composed: true,
          detail: isAnswer(error) ? error.message : this.text("no_answer"),
        }),
      );
      return undefined;
    }
  }

  protected async submit(
    device: string,
    operation: Operation,
    options: {
      version?: string;
      source?: string;
      clean?: boolean;
      rebuild?: boolean;
      batch?: string;
    } = {},
  ): Promise<Job | undefined> {
    const answer = await this.command<{ job: Job }>({
      type: "esphome_offload/job/submit",
      device,
      operation,
      ...options,
    });
    if (answer) this.store.add(answer.job);
    return answer?.job;
  }

  /** Do a job once more, by another builder if one is given. */
  protected async retry(job: Job, source?: string): Promise<void> {
    const answer = await this.command<{ job: Job }>({
      type: "esphome_offload/job/retry",
      job_id: job.job_id,
      ...(source ? { source } : {}),
    });
    if (!answer) return;
    this.store.add(answer.job);
    this.go(jobPath(answer.job));
  }

  protected async cancel(job: Job): Promise<void> {
    await this.command({ type: "esphome_offload/job/cancel", job_id: job.job_id });
  }
}

export const PAGE = "/esphome-offload";

/** Home Assistant's own page of the integration: its entries, and what was discovered. */
export const INTEGRATION = "/config/integrations/integration/esphome_offload";

/** The same, with the entry of this instance in sight: its gear has the settings. */
export const settingsPath = (store: Store): string => {
  const id = store.overview?.entry_id;
  return id ? `${INTEGRATION}#config_entry=${id}` : INTEGRATION;
};

export const jobPath = (job: Job): string => `${PAGE}/job/${job.job_id}`;

/** Go to a path of Home Assistant's frontend. */
export function navigate(path: string): void {
  history.pushState(null, "", path);
  window.dispatchEvent(new CustomEvent("location-changed", { detail: { replace: false } }));
}

/** Follow a link inside Home Assistant's frontend, but not one for a new tab. */
export function follow(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey) return;
  const link = event.currentTarget as HTMLAnchorElement;
  event.preventDefault();
  navigate(link.getAttribute("href") ?? PAGE);
}
