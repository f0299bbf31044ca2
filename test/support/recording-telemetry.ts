import { AsyncLocalStorage } from 'node:async_hooks';

import type {
  DeadLetteredDetails,
  ProcessDetails,
  ProcessOperation,
  ProcessOutcome,
  ReceiveDetails,
  ReceiveOperation,
  RedisStreamsError,
  RequestDetails,
  RequestOperation,
  SendOperation,
  SentMessageDetails,
  StreamMessage,
  Telemetry,
  TelemetrySource,
} from '../../lib/engine.js';

/** Writes down everything that it is called with, and numbers the operations: the parent is the one that is active. */
export class RecordingTelemetry implements Telemetry {
  readonly sources = new Set<TelemetrySource>();
  readonly sent: Array<Omit<SentMessageDetails, 'source'> & { parent: string | undefined; outcome?: object }> = [];
  readonly processed: Array<
    Omit<ProcessDetails, 'source'> & { ids: string[]; outcomes?: Array<Omit<ProcessOutcome, 'message'>> }
  > = [];
  readonly received: Array<
    Omit<ReceiveDetails, 'source'> & { outcome?: { message?: StreamMessage; error?: unknown } }
  > = [];
  readonly requested: Array<Omit<RequestDetails, 'source'> & { outcome?: object }> = [];
  readonly deadLetters: DeadLetteredDetails[] = [];
  readonly failures: string[] = [];
  readonly #active = new AsyncLocalStorage<string>();

  /** The operation in whose context the caller runs. */
  get active(): string | undefined {
    return this.#active.getStore();
  }

  attach(source: TelemetrySource): () => void {
    this.sources.add(source);
    return () => void this.sources.delete(source);
  }

  startSend({ source: _, ...details }: SentMessageDetails): SendOperation {
    const entry: (typeof this.sent)[number] = { ...details, parent: this.active };
    this.sent.push(entry);
    details.headers['trace'] = `send ${details.streamKey}`;
    return { end: (outcome) => void (entry.outcome = outcome) };
  }

  startProcess(messages: readonly StreamMessage[], { source: _, ...details }: ProcessDetails): ProcessOperation {
    const entry: (typeof this.processed)[number] = { ...details, ids: messages.map(({ id }) => id) };
    this.processed.push(entry);
    return {
      run: (work) => this.#active.run(`process ${details.pattern}`, work),
      end: (outcomes) => void (entry.outcomes = outcomes.map(({ message: _message, ...outcome }) => outcome)),
    };
  }

  startReceive({ source: _, ...details }: ReceiveDetails): ReceiveOperation {
    const entry: (typeof this.received)[number] = details;
    this.received.push(entry);
    return { end: (outcome) => void (entry.outcome = outcome) };
  }

  startRequest({ source: _, ...details }: RequestDetails): RequestOperation {
    const entry: (typeof this.requested)[number] = details;
    this.requested.push(entry);
    return {
      run: (work) => this.#active.run(`request ${details.pattern}`, work),
      end: (outcome) => void (entry.outcome = outcome),
    };
  }

  deadLettered(details: DeadLetteredDetails): void {
    this.deadLetters.push(details);
  }

  failed(error: RedisStreamsError): void {
    this.failures.push(error.code);
  }
}
