import { entryId } from 'nestjs-redis-streams';
import type { RangeBound } from 'nestjs-redis-streams';
import { refusal } from '../request-values.js';
import type { RequestValues } from '../request-values.js';

/** From this number on, the time of an id is in nanoseconds: in milliseconds it would be no date. */
const FIRST_NANOSECONDS = 8.64e15;

/** An id, or a time in ISO 8601; undefined when it is not given. @throws BadRequestException */
export function boundOf(values: RequestValues, name: string): RangeBound | undefined {
  const text = values.text(name);
  if (text === undefined || entryId.isValid(text)) return text;
  const time = new Date(text);
  if (time.getTime() >= 0) return time;
  throw refusal(name, 'must be the id of an entry, or a time such as 2026-01-31T12:00:00Z', text);
}

/** The same as a time. @throws BadRequestException */
export function timeOf(values: RequestValues, name: string): Date | undefined {
  const bound = boundOf(values, name);
  if (typeof bound !== 'string') return bound as Date | undefined;
  const time = Number.parseInt(bound, 10);
  return new Date(time > FIRST_NANOSECONDS ? Math.floor(time / 1_000_000) : time);
}
