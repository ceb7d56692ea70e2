// Texts in the person's language: Home Assistant loads them from the integration's translations.

import { isOver, type Builder, type HomeAssistant, type Job } from "./types";

const PREFIX = "component.esphome_offload.config_panel.";

export type Text = (key: string, values?: Record<string, string | number>) => string;

export const textsOf =
  (hass: HomeAssistant): Text =>
  (key, values) =>
    hass.localize(PREFIX + key, values) || key;

/** A text with a number of things in it: Home Assistant's texts of integrations have no plurals. */
export const counted = (
  hass: HomeAssistant,
  key: string,
  count: number,
  values: Record<string, string | number> = {},
): string => {
  const form = new Intl.PluralRules(hass.language).select(count) === "one" ? "one" : "other";
  return textsOf(hass)(`${key}_${form}`, { count, ...values });
};

const NUMBER_LOCALES: Record<string, string[] | undefined> = {
  comma_decimal: ["en-US", "en"],
  decimal_comma: ["de", "es", "it"],
  space_comma: ["fr", "sv", "cs"],
  quote_decimal: ["de-CH"],
  system: undefined,
};

/** A number as the person has chosen that numbers look, as in Home Assistant's own frontend. */
export function number(hass: HomeAssistant, value: number, digits = 0): string {
  const format = hass.locale?.number_format ?? "language";
  const locales = format in NUMBER_LOCALES ? NUMBER_LOCALES[format] : hass.language;
  return new Intl.NumberFormat(locales, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    useGrouping: format !== "none",
  }).format(value);
}

/** Where a job stands, in a few words. */
export function stageText(text: Text, job: Job): string {
  if (job.failure_reason === "superseded") return text("status.superseded");
  if (job.status !== "running") return text(`status.${job.status}`);
  return text(`stage.${job.stage ?? "preparing"}`);
}

/** The same with its place in the queue: what is announced when it changes. */
export function placeText(text: Text, job: Job): string {
  const stage = stageText(text, job);
  return !isOver(job) && job.queue_place
    ? text("at_place", { stage, place: job.queue_place })
    : stage;
}

/** How far a job is, to be shown behind where it stands. */
export const percentText = (job: Job): string =>
  isOver(job) || job.queue_place || job.progress === null ? "" : ` · ${job.progress} %`;

/** A builder's name, with its address where another has the same name. */
export function builderName(text: Text, builder: Builder, all: Builder[]): string {
  if (builder.id === "local") return text("builders.local");
  const alone = all.filter(({ label }) => label === builder.label).length < 2;
  return alone || !builder.url ? builder.label : `${builder.label} (${new URL(builder.url).host})`;
}

export const standing = (text: Text, job: Job): string => placeText(text, job) + percentText(job);

/** When a job is expected to end: only the time of day, unless that is another day. */
export function expectedEnd(hass: HomeAssistant, job: Job): string | undefined {
  if (isOver(job) || !job.expected_end) return undefined;
  const end = new Date(job.expected_end);
  const today = end.toDateString() === new Date().toDateString();
  const time = end.toLocaleString(hass.language, {
    ...(today ? {} : { dateStyle: "medium" }),
    timeStyle: "short",
  });
  return textsOf(hass)("expected_end", { time });
}

export function duration(text: Text, seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return text("seconds", { count: whole });
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return text("minutes", { minutes, seconds: whole % 60 });
  return text("hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

export const moment = (hass: HomeAssistant, iso: string): string =>
  new Date(iso).toLocaleString(hass.language, { dateStyle: "medium", timeStyle: "short" });

/** Whether Home Assistant has answered with this error; else the connection was lost meanwhile. */
export const isAnswer = (error: unknown): error is { code: string; message: string } =>
  typeof (error as { code?: unknown } | undefined)?.code === "string";
