// What Home Assistant gives to a panel, and what the integration's websocket commands send
// (page/payload.py, jobs/payload.py; docs/websocket.md says what the keys mean).

export interface Connection {
  subscribeMessage<T>(
    callback: (event: T) => void,
    message: Record<string, unknown>,
    options?: { resubscribe?: boolean },
  ): Promise<() => Promise<void> | void>;
  addEventListener(type: "ready" | "disconnected", listener: () => void): void;
  removeEventListener(type: "ready" | "disconnected", listener: () => void): void;
}

export interface HomeAssistant {
  connection: Connection;
  language: string;
  locale?: { number_format?: string };
  localize(key: string, values?: Record<string, string | number>): string;
  loadBackendTranslation(category: string, integration: string): Promise<unknown>;
  callWS<T>(message: Record<string, unknown>): Promise<T>;
}

export interface Route {
  prefix: string;
  path: string;
}

export interface Device {
  id: string;
  configuration: string;
  name: string;
  node_name: string;
  comment: string | null;
  platform: string | null;
  device_id: string | null;
  online: boolean | null;
  deep_sleep: boolean;
  installed_version: string | null;
  wanted_version: string | null;
  pinned: boolean;
  configuration_changed: boolean | null;
  update: boolean;
  over_the_air: boolean;
  rivals: string[];
}

/** What is asked for when a dialog of a device opens: what would be built where, and what was. */
export interface DeviceDetails {
  builder: string | null;
  reason: string;
  why_not: Record<string, string>;
  versions: string[];
  firmware: {
    sha256: string;
    esphome_version: string;
    built_at: string | null;
    images: string[];
  } | null;
}

export interface Builder {
  id: string;
  label: string;
  program: string | null;
  url: string | null;
  connected: boolean;
  available: boolean;
  used: boolean | null;
  why_not: string | null;
  slots: number;
  busy: number;
  queued: number;
  versions: string[];
  disk_mib: number | null;
  cache_hits: number;
  cache_files: number;
}

export interface GuestBuild {
  attempt_id: string;
  configuration: string;
  device_name: string;
  esphome_version: string;
  state: string;
  progress: number | null;
  over: boolean;
  reason: string | null;
}

export interface Guest {
  pin_sha256: string;
  label: string;
  connected: boolean;
  last_seen: string | null;
  builds_completed: number;
  builds: GuestBuild[];
}

export interface Overview {
  set_up: boolean;
  /** The config entry of this instance. */
  entry_id: string | null;
  folder: string | null;
  esphome_url: string | null;
  unreadable: Record<string, string>;
  builders: Builder[];
  lending: {
    accepts_builds: boolean;
    why_not: string | null;
    disk_used: number;
    code: string | null;
    seconds_left: number | null;
    guests: Guest[];
  };
}

/** A change of Home Assistant's config flows that nobody has started; the first event has all. */
export interface FlowChange {
  type: "added" | "removed" | null;
  flow_id: string;
  flow?: {
    handler: string;
    context: { source: string; title_placeholders?: { name?: string } };
  };
}

export interface PageEvent {
  snapshot: boolean;
  devices: Record<string, Device>;
  removed: string[];
  overview?: Overview;
}

export type Status = "queued" | "running" | "completed" | "failed" | "cancelled";
export type Operation = "install" | "compile" | "upload" | "clean";

/** What moves with every other job that starts or ends. */
export interface Expectation {
  queue_place: number | null;
  expected_end: string | null;
}

export interface Job extends Expectation {
  job_id: string;
  device_id: string | null;
  entity_id: string | null;
  configuration: string;
  device_name: string;
  operation: Operation;
  status: Status;
  stage: string | null;
  progress: number | null;
  source: "pending" | "local" | "remote";
  source_label: string | null;
  source_pin_sha256: string | null;
  esphome_version: string;
  from_version: string | null;
  verified: boolean | null;
  failure_reason: string | null;
  error: string | null;
  seconds: number;
  target: string;
  requested_source: string;
  routing_reason: string | null;
  why_not: Record<string, string>;
  clean: boolean;
  rebuild: boolean;
  waiting_for: string | null;
  pending: boolean;
  message: string | null;
  in_progress: boolean;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
}

export interface JobsEvent {
  jobs: Job[];
  expected?: Record<string, Expectation>;
  snapshot: boolean;
}

/** Output of a job, or of a build for a guest. */
export interface OutputEvent {
  first_line: number;
  lines: string[];
  next_line: number;
  terminal: boolean;
}

export interface LogEvent extends OutputEvent {
  job: Job;
}

export interface GuestLogEvent extends OutputEvent {
  build: GuestBuild;
}

/** Whether a job gives way to the next one of its device: one that has begun does not. */
export const isWaiting = (job: Job): boolean =>
  job.status === "queued" ||
  (job.status === "running" &&
    (job.stage === "waiting_builder" || job.stage === "waiting_device"));

/** What is asked for with one press; ``rebuild``: also when nothing has changed. */
export interface JobRequest {
  operation: Operation;
  rebuild?: boolean;
}

/** Whether a request takes the place of a device's job: one for the same work joins it. */
export const replacesJob = (
  { operation, rebuild = false }: JobRequest,
  device: Device,
  job: Job,
): boolean =>
  isWaiting(job) &&
  !(
    job.operation === operation &&
    job.rebuild === rebuild &&
    !job.clean &&
    job.requested_source === "auto" &&
    // What was built last is uploaded, of whatever version it is.
    (operation === "upload" || job.esphome_version === (device.wanted_version ?? ""))
  );

/** Whether an installation puts another version in place of one that is no older. */
export const replacesVersion = ({ update, installed_version, wanted_version }: Device): boolean =>
  !update && !!installed_version && !!wanted_version && installed_version !== wanted_version;

export const isOver = (job: Job): boolean =>
  job.status === "completed" || job.status === "failed" || job.status === "cancelled";
