import type { RedisStreamsError } from '../../errors.js';
import { InvalidOptionError } from '../../errors.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { optionNames } from '../../shared/option-checks.js';
import type { StreamMessage } from '../messages/stream-message.js';
import type {
  DeadLetteredDetails,
  ProcessDetails,
  ProcessOperation,
  ProcessOutcome,
  ReceiveDetails,
  ReceiveOperation,
  RequestDetails,
  RequestOperation,
  SendOperation,
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
  end(outcome: Outcome): void;
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

/**
 * All that follow the messages of one streamer, as one that never throws: the first failure of each method is logged, and the
 * message takes its way. The engine has none of these where no telemetry was given, so that nothing is asked for a message.
 */
export class GuardedTelemetry {
  /** Whether any of them wants to know of sends, and so on; what none of them wants is not even described. */
  readonly followsSends: boolean;
  readonly followsHandlers: boolean;
  readonly followsReceives: boolean;
  readonly followsRequests: boolean;
  readonly #all: readonly Telemetry[];
  readonly #source: TelemetrySource;
  readonly #logger: RedisStreamsLogger;
  readonly #reported = new Set<string>();
  #detach: Array<() => void> | undefined;

  constructor(all: readonly Telemetry[], source: TelemetrySource, logger: RedisStreamsLogger) {
    this.#all = all;
    this.#source = source;
    this.#logger = logger;
    this.followsSends = all.some(({ startSend }) => startSend);
    this.followsHandlers = all.some(({ startProcess }) => startProcess);
    this.followsReceives = all.some(({ startReceive }) => startReceive);
    this.followsRequests = all.some(({ startRequest }) => startRequest);
  }

  attach(): void {
    this.#detach ??= this.#each('attach', (telemetry) => telemetry.attach?.(this.#source));
  }

  detach(): void {
    for (const detach of this.#detach ?? []) this.#guard('attach', detach);
    this.#detach = [];
  }

  startSend(message: Omit<SentMessageDetails, 'source'>): SendOperation {
    const details = { ...message, source: this.#source };
    return this.#follow('startSend', (telemetry) => telemetry.startSend?.(details));
  }

  startProcess(
    messages: readonly StreamMessage[],
    handling: Omit<ProcessDetails, 'source'>,
  ): Required<ProcessOperation> {
    const details = { ...handling, source: this.#source };
    return this.#follow<readonly ProcessOutcome[]>('startProcess', (telemetry) =>
      telemetry.startProcess?.(messages, details),
    );
  }

  startReceive(receiving: Omit<ReceiveDetails, 'source'>): ReceiveOperation {
    const details = { ...receiving, source: this.#source };
    return this.#follow('startReceive', (telemetry) => telemetry.startReceive?.(details));
  }

  startRequest(request: Omit<RequestDetails, 'source'>): Required<RequestOperation> {
    const details = { ...request, source: this.#source };
    return this.#follow<{ readonly error?: unknown; readonly isCancelled?: boolean }>('startRequest', (telemetry) =>
      telemetry.startRequest?.(details),
    );
  }

  deadLettered(details: DeadLetteredDetails): void {
    this.#each('deadLettered', (telemetry) => telemetry.deadLettered?.(details));
  }

  failed(error: RedisStreamsError): void {
    this.#each('failed', (telemetry) => telemetry.failed?.(error, this.#source));
  }

  /** @internal For the operations. */
  runGuarded<T>(name: string, operation: Operation<never>, work: () => T): T {
    if (!operation.run) return work();
    let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
    const once = (): T => {
      try {
        const value = work();
        outcome = { value };
        return value;
      } catch (error) {
        outcome = { error };
        throw error;
      }
    };
    try {
      operation.run(once);
    } catch (error) {
      if (!outcome || !('error' in outcome)) this.#report(name, error);
    }
    const ended = outcome as { readonly value: T } | { readonly error: unknown } | undefined;
    if (!ended) return work();
    if ('error' in ended) throw ended.error;
    return ended.value;
  }

  /** @internal For the operations. */
  endGuarded<Outcome>(name: string, operation: Operation<Outcome>, outcome: Outcome): void {
    this.#guard(name, () => operation.end(outcome));
  }

  #follow<Outcome>(
    name: keyof Telemetry,
    start: (telemetry: Telemetry) => Operation<Outcome> | undefined,
  ): GuardedOperation<Outcome> {
    return new GuardedOperation(this, name, this.#each(name, start));
  }

  #each<T>(name: keyof Telemetry, call: (telemetry: Telemetry) => T | undefined): T[] {
    const results: T[] = [];
    for (const telemetry of this.#all) {
      const result = this.#guard(name, () => call(telemetry));
      if (result !== undefined) results.push(result);
    }
    return results;
  }

  #guard<T>(name: string, call: () => T): T | undefined {
    try {
      return call();
    } catch (error) {
      this.#report(name, error);
      return undefined;
    }
  }

  #report(name: string, error: unknown): void {
    if (this.#reported.has(name)) return;
    this.#reported.add(name);
    this.#logger.error(`A telemetry failed in ${name}(), which is reported once: ${errorText(error)}`);
  }
}

/** What every telemetry has started for one message, batch or request. Ends once. */
class GuardedOperation<Outcome> {
  readonly #telemetry: GuardedTelemetry;
  readonly #name: string;
  readonly #operations: ReadonlyArray<Operation<Outcome>>;
  #hasEnded = false;

  constructor(telemetry: GuardedTelemetry, name: string, operations: ReadonlyArray<Operation<Outcome>>) {
    this.#telemetry = telemetry;
    this.#name = name;
    this.#operations = operations;
  }

  /** The context of the first one is the outermost. */
  run<T>(work: () => T): T {
    if (!this.#operations.some(({ run }) => run)) return work();
    const nested = this.#operations.reduceRight<() => T>(
      (inner, operation) => () => this.#telemetry.runGuarded(this.#name, operation, inner),
      work,
    );
    return nested();
  }

  end(outcome: Outcome): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    for (const operation of this.#operations) this.#telemetry.endGuarded(this.#name, operation, outcome);
  }
}
