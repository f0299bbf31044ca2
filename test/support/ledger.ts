import type { Receipt } from '../../lib/engine/messages/receipt.js';
import { UncertainSendError } from '../../lib/errors.js';
import { until } from './until.js';

/** The result of a ledger. */
export interface Account {
  /** Messages that Redis confirmed and that were never handled: must be empty. */
  readonly lost: readonly string[];
  /** Messages that were handled more than once, with the number of handlings beyond the first. */
  readonly duplicates: ReadonlyMap<string, number>;
}

interface Handled {
  readonly id: string;
  text(): string;
}

/** Records every confirmed send and every handled message by its payload, and compares them. */
export class Ledger {
  readonly #confirmed = new Map<string, string>();
  readonly #handled = new Map<string, number>();
  readonly #handledOrder: string[] = [];
  /** Payloads of failed sends, with their errors. */
  readonly failures = new Map<string, Error>();
  #open = 0;

  get confirmed(): number {
    return this.#confirmed.size;
  }

  /** Number of different messages that were handled. */
  get handled(): number {
    return this.#handled.size;
  }

  /** Number of handlings beyond the first of each message. */
  get repeated(): number {
    return this.#handledOrder.length - this.#handled.size;
  }

  /** Payloads in the order of their handling, including repetitions. */
  get order(): readonly string[] {
    return this.#handledOrder;
  }

  /** Number of sends that may or may not be in the stream. */
  get uncertain(): number {
    return [...this.failures.values()].filter((error) => error instanceof UncertainSendError).length;
  }

  /** Records the outcome of a send; resolves with it and never rejects. */
  async sent(payload: string, result: Promise<Receipt>): Promise<void> {
    this.#open += 1;
    try {
      this.#confirmed.set(payload, (await result).id);
    } catch (error) {
      this.failures.set(payload, error as Error);
    }
    this.#open -= 1;
  }

  handledMessage(message: Handled): void {
    const payload = message.text();
    this.#handled.set(payload, (this.#handled.get(payload) ?? 0) + 1);
    this.#handledOrder.push(payload);
  }

  /** Waits until every send has its outcome and every confirmed one has been handled. */
  async settled(limit = 15_000): Promise<Account> {
    await until('every send has an outcome', () => this.#open === 0, limit);
    try {
      await until('every confirmed message is handled', () => this.#lost().length === 0, limit);
    } catch {
      // The returned account lists the missing messages.
    }
    return this.account();
  }

  account(): Account {
    const duplicates = new Map(
      [...this.#handled].filter(([, times]) => times > 1).map(([key, times]) => [key, times - 1]),
    );
    return { lost: this.#lost(), duplicates };
  }

  #lost(): string[] {
    return [...this.#confirmed.keys()].filter((payload) => !this.#handled.has(payload));
  }
}
