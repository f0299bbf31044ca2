import type { ChaosHandling } from './chaos-consumer.js';
import type { ChaosProducerLine } from './chaos-producer.js';

/** A fault, from its beginning until the cluster is whole again and messages flow; by the clock of the machine. */
export interface ChaosFault {
  readonly name: string;
  readonly begin: number;
  end: number;
}

export interface StoredMessage {
  readonly stream: string;
  readonly id: string;
  readonly payload: string;
}

interface Sent {
  readonly stream: string;
  id?: string;
  code?: string;
}

/** An acknowledgement is sent this long after its message was handled, with a margin for a busy machine. */
const UNTIL_ACKNOWLEDGED = 2_000;

/** Each message that was sent, each outcome, and each handling in each group, as the processes reported them. */
export class ChaosLedger {
  readonly faults: ChaosFault[] = [];
  readonly #sent = new Map<string, Sent>();
  readonly #handled = new Map<string, ChaosHandling[]>();
  #confirmed = 0;

  get sent(): number {
    return this.#sent.size;
  }

  get confirmed(): number {
    return this.#confirmed;
  }

  produced(line: ChaosProducerLine): void {
    if ('sent' in line) this.#sent.set(line.sent, { stream: line.stream });
    else if ('confirmed' in line) {
      this.#confirmed += 1;
      (this.#sent.get(line.confirmed) as Sent).id = line.id;
    } else if ('failed' in line) (this.#sent.get(line.failed) as Sent).code = line.code;
  }

  handled(group: string, handling: ChaosHandling): void {
    this.handlings(group).push(handling);
  }

  handlings(group: string): ChaosHandling[] {
    let all = this.#handled.get(group);
    if (!all) this.#handled.set(group, (all = []));
    return all;
  }

  /** The number of failed sends with each code. */
  failures(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { code } of this.#sent.values()) if (code !== undefined) counts[code] = (counts[code] ?? 0) + 1;
    return counts;
  }

  /** Messages without an outcome. */
  open(): string[] {
    return [...this.#sent].flatMap(([payload, { id, code }]) =>
      id === undefined && code === undefined ? payload : [],
    );
  }

  /** Messages that were confirmed and that a group has not handled. */
  lost(group: string): string[] {
    const handled = new Set(this.handlings(group).map(({ payload }) => payload));
    return [...this.#sent].flatMap(([payload, { id }]) => (id !== undefined && !handled.has(payload) ? payload : []));
  }

  /** Messages that were confirmed and are not in their stream under the id of their receipt. */
  missing(stored: readonly StoredMessage[]): string[] {
    const places = new Set(stored.map(({ stream, id, payload }) => `${stream} ${id} ${payload}`));
    return [...this.#sent].flatMap(([payload, { stream, id }]) =>
      id !== undefined && !places.has(`${stream} ${id} ${payload}`) ? payload : [],
    );
  }

  /** Handlings of an entry beyond the first one. */
  repeated(group: string): number {
    const handlings = this.handlings(group);
    return handlings.length - new Set(handlings.map(({ stream, id }) => `${stream} ${id}`)).size;
  }

  /** Entries that were handled again although no fault can have kept the acknowledgement from the server that serves them. */
  unexplained(group: string): string[] {
    const last = new Map<string, number>();
    return this.handlings(group).flatMap(({ stream, id, payload, at }) => {
      const entry = `${stream} ${id}`;
      const before = last.get(entry);
      last.set(entry, at);
      if (before === undefined) return [];
      const isExplained = this.faults.some(({ begin, end }) => begin <= at && before - UNTIL_ACKNOWLEDGED <= end);
      return isExplained ? [] : `${group}: ${entry} ${payload}, after ${at - before} ms`;
    });
  }
}

/** Messages, each without its repetitions, that come before an earlier message of their key. */
export function outOfOrder(messages: ReadonlyArray<{ readonly stream: string; readonly payload: string }>): string[] {
  const seen = new Set<string>();
  const last = new Map<string, number>();
  return messages.flatMap(({ stream, payload }) => {
    if (seen.has(payload)) return [];
    seen.add(payload);
    const [producer, key, number] = payload.split('/');
    const before = last.get(`${producer}/${key}`) ?? -1;
    last.set(`${producer}/${key}`, Math.max(before, Number(number)));
    return Number(number) > before ? [] : `${stream} ${payload}, after ${before}`;
  });
}

/** Messages that are in a stream more than once. */
export function storedAgain(stored: readonly StoredMessage[]): string[] {
  const seen = new Set<string>();
  return stored.flatMap(({ payload }) => (seen.has(payload) ? payload : (seen.add(payload), [])));
}
