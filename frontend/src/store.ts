// What the page shows, kept up to date by three subscriptions of Home Assistant's connection.

import type {
  Device,
  FlowChange,
  HomeAssistant,
  Job,
  JobsEvent,
  Overview,
  PageEvent,
} from "./types";
import { isOver } from "./types";

/** Of those that have ended; those that are active all come. */
const NEWEST_JOBS = 200;
/** How a builder comes that nobody has asked for. */
const DISCOVERED = new Set(["zeroconf", "hassio"]);

export class Store {
  devices = new Map<string, Device>();
  /** In the order in which they were made: ids go back where a clock is set back. */
  jobs = new Map<string, Job>();
  overview?: Overview;
  /** The labels of the builders that were discovered and are not paired, by config flow. */
  discovered = new Map<string, string>();
  /** When the overview came, by the browser's clock: the code's time left counts from here. */
  overviewAt = 0;

  private byTarget?: Map<string, Job>;
  private unsubscribes: Promise<() => Promise<void> | void>[] = [];

  constructor(private readonly changed: () => void) {}

  /** All answer anew with everything when the connection comes back. */
  start(hass: HomeAssistant): Promise<unknown> {
    this.unsubscribes = [
      hass.connection.subscribeMessage<PageEvent>((event) => this.pageChanged(event), {
        type: "esphome_offload/page/subscribe",
      }),
      hass.connection.subscribeMessage<JobsEvent>((event) => this.jobsChanged(event), {
        type: "esphome_offload/jobs/subscribe",
        limit: NEWEST_JOBS,
      }),
      hass.connection.subscribeMessage<FlowChange[]>((changes) => this.flowsChanged(changes), {
        type: "config_entries/flow/subscribe",
      }),
    ];
    return Promise.all(this.unsubscribes);
  }

  stop(): void {
    for (const unsubscribe of this.unsubscribes) {
      // One that was refused has nothing to end; one of a lost connection neither.
      unsubscribe.then((end) => end()).catch(() => undefined);
    }
    this.unsubscribes = [];
  }

  /** Newest first. */
  sortedJobs(): Job[] {
    return [...this.jobs.values()].reverse();
  }

  /** The job of a device that goes on or waits, else the one that ended last. */
  jobOf(device: Device): Job | undefined {
    if (!this.byTarget) {
      this.byTarget = new Map();
      for (const job of this.sortedJobs()) {
        const known = this.byTarget.get(job.target);
        if (!known || (isOver(known) && !isOver(job))) this.byTarget.set(job.target, job);
      }
    }
    return this.byTarget.get(device.id);
  }

  /** What a person calls the device of a job. */
  nameOf(job: Job): string {
    return this.devices.get(job.target)?.name ?? job.device_name;
  }

  /** Take over a job that a command has answered with. */
  add(job: Job): void {
    this.jobs.set(job.job_id, job);
    this.jobsAreOthers();
  }

  private jobsAreOthers(): void {
    this.byTarget = undefined;
    this.changed();
  }

  private pageChanged(event: PageEvent): void {
    if (event.snapshot) this.devices.clear();
    for (const id of event.removed) this.devices.delete(id);
    for (const [id, device] of Object.entries(event.devices)) this.devices.set(id, device);
    if (event.overview) {
      this.overview = event.overview;
      this.overviewAt = Date.now();
    }
    this.changed();
  }

  private flowsChanged(changes: FlowChange[]): void {
    if (changes.every(({ type }) => type === null)) this.discovered.clear();
    for (const { flow_id: id, flow } of changes) {
      if (!flow) this.discovered.delete(id);
      else if (flow.handler === "esphome_offload" && DISCOVERED.has(flow.context.source)) {
        this.discovered.set(id, flow.context.title_placeholders?.name ?? "");
      }
    }
    this.changed();
  }

  private jobsChanged(event: JobsEvent): void {
    if (event.snapshot) this.jobs.clear();
    // Of all the newest come first.
    const jobs = event.snapshot ? [...event.jobs].reverse() : event.jobs;
    for (const job of jobs) this.jobs.set(job.job_id, job);
    for (const [id, expected] of Object.entries(event.expected ?? {})) {
      const job = this.jobs.get(id);
      if (job) this.jobs.set(id, { ...job, ...expected });
    }
    this.jobsAreOthers();
  }
}
