import { Store } from './store.js';

/** Differs from the clock of the viewer. */
let offset = 0;
/** Milliseconds since 1970 by the clock of the process that serves the console, in steps of a second. */
export const now = new Store(Date.now());

setInterval(() => {
  if (!document.hidden) now.set(Date.now() + offset);
}, 1_000);

export function setServerTime(at: number): void {
  offset = at - Date.now();
}

export function serverNow(): number {
  return Date.now() + offset;
}

/** The largest that a `Date` holds. The first part of an id may be larger. */
const LAST_DATE = 8.64e15;
/** A larger time is not in nanoseconds either. */
const LAST_NANOSECOND = 2 ** 63;
const NO_TIME = 'no time';

function isDate(at: number | null): at is number {
  return at !== null && Number.isFinite(at) && Math.abs(at) <= LAST_DATE;
}

/** In ISO 8601; null when no `Date` holds the time. */
export function isoTime(at: number | null): string | null {
  return isDate(at) ? new Date(at).toISOString() : null;
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const timeOfDay = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });

/** In the viewer's zone; of today without the date. */
export function formatTime(at: number | null): string {
  if (!isDate(at)) return NO_TIME;
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  return (isToday ? timeOfDay : exact).format(at);
}

export function formatDateTime(at: number | null): string {
  return isDate(at) ? exact.format(at) : NO_TIME;
}

/** `in 5 s`, `3 m 10 s ago` */
export function formatAge(at: number | null, since: number): string {
  if (!isDate(at)) return NO_TIME;
  const distance = since - at;
  if (Math.abs(distance) < 1_000) return 'now';
  const text = formatDuration(Math.abs(distance));
  return distance > 0 ? `${text} ago` : `in ${text}`;
}

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['m', 60],
  ['s', 1],
] as const;

/** The two largest units: `340 ms`, `12 s`, `3 m 10 s`, `2 d 4 h`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds <= 0) return '0 s';
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  const seconds = Math.floor(milliseconds / 1_000);
  const largest = UNITS.findIndex(([, size]) => seconds >= size);
  const [unit, size] = UNITS[largest] ?? UNITS[3];
  const text = `${Math.floor(seconds / size)} ${unit}`;
  const next = UNITS[largest + 1];
  const rest = next && Math.floor((seconds % size) / next[1]);
  return next && rest ? `${text} ${rest} ${next[0]}` : text;
}

/** The time in the id of an entry, in milliseconds also where its producer counts nanoseconds. */
export function timeOfId(id: string): number {
  const time = Number(id.split('-')[0]);
  return time > LAST_DATE && time < LAST_NANOSECOND ? Math.floor(time / 1e6) : time;
}

/** For `<input type="datetime-local">`, in the viewer's zone; empty when the field cannot hold the time. */
export function toLocalInput(at: number): string {
  const shifted = isoTime(at - new Date(at).getTimezoneOffset() * 60_000) ?? '';
  return /^\d{4}-/.test(shifted) ? shifted.slice(0, 19) : '';
}

export function fromLocalInput(text: string): number | null {
  const at = new Date(text).getTime();
  return Number.isNaN(at) ? null : at;
}
