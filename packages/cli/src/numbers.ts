import { UsageError } from './failure.js';

/** Bytes for people: `512 B`, `1.5 KiB`, `30 MiB`; undefined stays undefined. */
export function readableBytes(bytes: number | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** @throws UsageError unless the text is a whole number of at least `min` */
export function countOf(option: string, text: string, min = 1): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (count >= min) return count;
  throw new UsageError(`${option} must be a whole number, at least ${min}; got '${text}'`);
}

/** `1 message`, `3,000 messages`. */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count.toLocaleString('en')} ${count === 1 ? noun : plural}`;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
