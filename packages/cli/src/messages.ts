import type { DeadLetterMessage } from 'nestjs-redis-streams/engine';
import type { Entry } from './entries.js';
import type { Output } from './output.js';
import { printable, printableBytes, utf8 } from './printable.js';

/** Bytes after which a payload is cut at a terminal; elsewhere it is complete. */
const LONGEST_AT_TERMINAL = 2_000;

/** A message in JSON, as `--json` prints it and a line of an ndjson file has it. */
export interface MessageJson extends PayloadJson {
  readonly id: string;
  readonly streamKey: string;
  readonly shardId: number;
  readonly timestamp?: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** Base64 if the bytes are not UTF-8. */
export interface PayloadJson {
  readonly payload: string;
  readonly encoding: 'utf8' | 'base64';
}

export function messageJson({ streamKey, shardId, message }: Entry): MessageJson {
  const { id, headers, payload } = message;
  return { id, streamKey, shardId, timestamp: timestampOf(message), headers, ...payloadJson(payload) };
}

/** The same, with the fields of an entry that has no payload. */
export function shownJson(entry: Entry): MessageJson & { readonly fields?: Readonly<Record<string, string>> } {
  const { hasPayload, fields } = entry.message;
  if (hasPayload) return messageJson(entry);
  return {
    ...messageJson(entry),
    fields: Object.fromEntries([...fields].map(([name, value]) => [name, textOf(value)])),
  };
}

export function payloadJson(payload: Uint8Array): PayloadJson {
  const text = utf8(payload);
  return text === undefined
    ? { payload: Buffer.from(payload).toString('base64'), encoding: 'base64' }
    : { payload: text, encoding: 'utf8' };
}

/** A dead letter as `--json` prints it. */
export function deadLetterJson({ payload, ...letter }: DeadLetterMessage): Record<string, unknown> {
  return { ...letter, ...payloadJson(payload) };
}

/** A message on one line: id, shard where there are several, payload, headers. */
export function messageLine({ shardId, message }: Entry, output: Output, isSharded: boolean): string {
  const longest = output.isTerminal ? LONGEST_AT_TERMINAL : Infinity;
  const headers = Object.entries(message.headers).map(([name, value]) => `${name}=${value}`);
  const fields = [...message.fields].map(([name, value]) => `${printable(name)}=${printableBytes(value, longest)}`);
  return [
    output.styled('cyan', message.id),
    ...(isSharded ? [`shard ${shardId}`] : []),
    message.hasPayload ? printableBytes(message.payload, longest) : fields.join(' '),
    ...(headers.length > 0 && message.hasPayload ? [output.styled('dim', printable(headers.join(' ')))] : []),
  ].join('  ');
}

/** Undefined for an id that has no time in milliseconds. */
export function timestampOf({ timestamp }: { readonly timestamp: Date }): string | undefined {
  return Number.isNaN(timestamp.getTime()) ? undefined : timestamp.toISOString();
}

function textOf(bytes: Uint8Array): string {
  return utf8(bytes) ?? `base64:${Buffer.from(bytes).toString('base64')}`;
}
