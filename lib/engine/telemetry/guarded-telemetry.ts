import type { RedisStreamsError } from '../../errors.js';
import { InvalidOptionError } from '../../errors.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { optionNames } from '../../shared/option-checks.js';
import type { StreamMessage } from '../messages/stream-message.js';
import type {
  DeadLetteredDetails,
  ProcessDetails,
  ProcessOutcome,
  ReceiveDetails,
  ReceiveOutcome,
  RequestDetails,
  RequestOutcome,
  SendOutcome,
  SentMessageDetails,
  Telemetry,
  TelemetrySource,
} from './telemetry.js';

const METHODS = optionNames<Required<Telemetry>>({
  attach: true,
  startSend: true,
  startProcess: true,
  startReceive: true,
  startRequest: true,
  deadLettered: true,
  failed: true,
});

/** Any operation, as far as all of them are alike. */
interface Operation<Outcome> {
  run?<T>(work: () => T): T;
  end(outcome: Outcome, duration: number): void;
}

/** @throws InvalidOptionError */
export function resolveTelemetry(given: Telemetry | readonly Telemetry[] | undefined): readonly Telemetry[] {
  const all: readonly unknown[] = given === undefined ? [] : Array.isArray(given) ? given : [given];
  for (const telemetry of all) {
    const methods = [...METHODS].map((name) => (telemetry as Record<string, unknown> | null | undefined)?.[name]);
    const present = methods.filter((method) => method !== undefined);
    if (present.length > 0 && present.every((method) => typeof method === 'function')) continue;
    const rule = 'must be an object with methods of Telemetry, as openTelemetry() makes one, or an array of them';
    throw new InvalidOptionError('telemetry', rule, telemetry);
  }
  return all as readonly Telemetry[];
}

/** How one method of a telemetry is called; a constant, because this happens for each message. */
type Start<A, B, Outcome> = (telemetry: Telemetry, first: A, second: B) => Operation<Outcome> | undefined;

const startSend: Start<SentMessageDetails, undefined, SendOutcome> = (telemetry, details) =>
  telemetry.startSend?.(details);
const startProcess: Start<readonly StreamMessage[], ProcessDetails, readonly ProcessOutcome[]> = (
  telemetry,
  messages,
  details,
) => telemetry.startProcess?.(messages, details);
const startReceive: Start<ReceiveDetails, undefined, ReceiveOutcome> = (telemetry, details) =>
  telemetry.startReceive?.(details);
const startRequest: Start<RequestDetails, undefined, RequestOutcome> = (telemetry, details) =>
  telemetry.startRequest?.(details);

/**
 * The telemetries of one streamer, as one that never throws: the first failure of each method is logged, and the message is
 * sent or handled all the same. Where no telemetry was given there is none of these, so that a message costs nothing more.
 */
export class GuardedTelemetry {
  /** Whether any of them wants to know of sends, and so on; what none of them wants is not even described. */
  readonly followsSends: boolean;
  readonly followsHandlers: boolean;
  readonly followsReceives: boolean;
  readonly followsRequests: boolean;
  readonly source: TelemetrySource;
  readonly #all: readonly Telemetry[];
  readonly #logger: RedisStreamsLogger;
  readonly #reported = new Set<string>();
  #detach: Array<() => void> | undefined;

  constructor(all: readonly Telemetry[], source: TelemetrySource, logger: RedisStreamsLogger) {
    this.#all = all;
    this.source = source;
    this.#logger = logger;
    this.followsSends = all.some((telemetry) => telemetry.startSend);
    this.followsHandlers = all.some((telemetry) => telemetry.startProcess);
    this.followsReceives = all.some((telemetry) => telemetry.startReceive);
    this.followsRequests = all.some((telemetry) => telemetry.startRequest);
  }

  attach(): void {
    this.#detach ??= this.#all.flatMap(
      (telemetry) => this.#guard('attach', () => telemetry.attach?.(this.source)) ?? [],
    );
  }

  detach(): void {
    for (const detach of this.#detach ?? []) this.#guard('attach', detach);
    this.#detach = [];
  }

  startSend(message: SentMessageDetails): FollowedOperation<SendOutcome> | undefined {
    return this.#start('startSend', startSend, message, undefined);
  }

  startProcess(
    messages: readonly StreamMessage[],
    details: ProcessDetails,
  ): FollowedOperation<readonly ProcessOutcome[]> | undefined {
    return this.#start('startProcess', startProcess, messages, details);
  }

  startReceive(details: ReceiveDetails): FollowedOperation<ReceiveOutcome> | undefined {
    return this.#start('startReceive', startReceive, details, undefined);
  }

  startRequest(details: RequestDetails): FollowedOperation<RequestOutcome> | undefined {
    return this.#start('startRequest', startRequest, details, undefined);
  }

  deadLettered(details: DeadLetteredDetails): void {
    for (const telemetry of this.#all) this.#guard('deadLettered', () => telemetry.deadLettered?.(details));
  }

  failed(error: RedisStreamsError): void {
    for (const telemetry of this.#all) this.#guard('failed', () => telemetry.failed?.(error, this.source));
  }

  /** Logs the first failure of a method, or of what it returned. @internal */
  report(name: keyof Telemetry, error: unknown): void {
    if (this.#reported.has(name)) return;
    this.#reported.add(name);
    this.#logger.error(
      `A telemetry failed in ${name}() or in what that returned, which is reported once: ${errorText(error)}`,
    );
  }

  /** What must return nothing may be async all the same, and a rejection that nothing handles would end the process. @internal */
  watch(name: keyof Telemetry, result: unknown): void {
    if (result instanceof Promise) result.catch((error: unknown) => this.report(name, error));
  }

  /** What the call returns; undefined when it throws, which is reported. */
  #guard<T>(name: keyof Telemetry, call: () => T): T | undefined {
    try {
      const result = call();
      this.watch(name, result);
      return result;
    } catch (error) {
      this.report(name, error);
      return undefined;
    }
  }

  #start<A, B, Outcome>(
    name: keyof Telemetry,
    start: Start<A, B, Outcome>,
    first: A,
    second: B,
  ): FollowedOperation<Outcome> | undefined {
    let started: FollowedOperation<Outcome> | undefined;
    for (const telemetry of this.#all) {
      try {
        const operation = start(telemetry, first, second);
        this.watch(name, operation);
        if (operation) started = new FollowedOperation(this, name, operation, started);
      } catch (error) {
        this.report(name, error);
      }
    }
    return started;
  }
}

/**
 * What the telemetries have started for one message, batch or request: the last of them, which knows the one before. It reads the
 * clock for all of them.
 */
export class FollowedOperation<Outcome> {
  readonly #telemetry: GuardedTelemetry;
  readonly #name: keyof Telemetry;
  readonly #operation: Operation<Outcome>;
  readonly #previous: FollowedOperation<Outcome> | undefined;
  readonly #startedAt: number;
  #hasEnded = false;

  constructor(
    telemetry: GuardedTelemetry,
    name: keyof Telemetry,
    operation: Operation<Outcome>,
    previous: FollowedOperation<Outcome> | undefined,
  ) {
    this.#telemetry = telemetry;
    this.#name = name;
    this.#operation = operation;
    this.#previous = previous;
    this.#startedAt = previous ? previous.#startedAt : performance.now();
  }

  /** Calls the work once, whatever the operations do; the context of the first one is the outermost. */
  run<T>(work: () => T): T {
    return this.#previous ? this.#previous.run(() => this.#runWithin(work)) : this.#runWithin(work);
  }

  /** Only the first call has an effect. */
  end(outcome: Outcome): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#endAll(outcome, performance.now() - this.#startedAt);
  }

  #endAll(outcome: Outcome, duration: number): void {
    if (this.#previous) this.#previous.#endAll(outcome, duration);
    try {
      this.#telemetry.watch(this.#name, this.#operation.end(outcome, duration));
    } catch (error) {
      this.#telemetry.report(this.#name, error);
    }
  }

  #runWithin<T>(work: () => T): T {
    if (!this.#operation.run) return work();
    let result: { readonly value: T } | { readonly error: unknown } | undefined;
    const once = (): T => {
      result ??= resultOf(work);
      return valueOf(result);
    };
    try {
      const returned: unknown = this.#operation.run(once);
      // What is not from the work is of a run that is async.
      if (!result || !('value' in result) || returned !== result.value) this.#telemetry.watch(this.#name, returned);
    } catch (error) {
      if (!result || !('error' in result)) this.#telemetry.report(this.#name, error);
    }
    return once();
  }
}

function resultOf<T>(work: () => T): { readonly value: T } | { readonly error: unknown } {
  try {
    return { value: work() };
  } catch (error) {
    return { error };
  }
}

function valueOf<T>(result: { readonly value: T } | { readonly error: unknown }): T {
  if ('error' in result) throw result.error;
  return result.value;
}
