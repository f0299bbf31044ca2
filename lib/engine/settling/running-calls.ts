import type { AbortReason } from '../../errors.js';
import { monotonicNow } from '../../shared/clock.js';
import type { HandlerReport } from '../consuming/message-taker.js';
import type { StreamMessage } from '../messages/stream-message.js';
import type { Delivery } from './settlement.js';
import type { Turn } from './suspect-turn.js';

/** A call of the handlers, for one message or a batch. */
export interface Call {
  /** Time of `performance.now()`. */
  readonly startedAt: number;
  /** When its handlers started, on the monotonic clock. */
  handlersStartedAt: number;
  readonly messages: readonly StreamMessage[];
  /** Deliveries of the messages that reach a handler. */
  deliveries: readonly Delivery[];
  /** The turn, if the message is a suspect. */
  readonly turn: Turn | undefined;
}

/** A call that starts now. */
export function newCall(messages: readonly StreamMessage[], turn: Turn | undefined): Call {
  // One reading for both: the monotonic clock is `performance.now()` in whole milliseconds.
  const startedAt = performance.now();
  return { startedAt, handlersStartedAt: Math.floor(startedAt), messages, deliveries: [], turn };
}

/** The calls that run, in the order in which they began. */
export class RunningCalls {
  readonly #calls = new Set<Call>();

  add(call: Call): void {
    this.#calls.add(call);
  }

  delete(call: Call): void {
    this.#calls.delete(call);
  }

  /** @param isBusy whether no further call may start */
  report(isBusy: boolean): HandlerReport {
    const now = monotonicNow();
    const [oldest, ...others] = this.#calls;
    const latest = others.at(-1) ?? oldest;
    return {
      oldestHandler: oldest && now - oldest.handlersStartedAt,
      allBusyFor: isBusy && latest ? now - latest.handlersStartedAt : undefined,
    };
  }

  /** Aborts the signals of the selected deliveries. Returns whether a handler has asked for one of them. */
  abort(reason: AbortReason, isSelected: (message: StreamMessage) => boolean = () => true): boolean {
    let hasSignal = false;
    for (const { deliveries } of this.#calls) {
      for (const delivery of deliveries) {
        if (!isSelected(delivery.message)) continue;
        delivery.abort(reason);
        hasSignal ||= delivery.hasSignal;
      }
    }
    return hasSignal;
  }
}
