import { context, propagation, trace } from '@opentelemetry/api';
import type { Context, SpanContext, TextMapGetter, TextMapPropagator, TextMapSetter } from '@opentelemetry/api';

type Headers = Readonly<Record<string, string>>;

const getter: TextMapGetter<Headers> = {
  // A header may have any name, also one of Object.prototype.
  get: (headers, name) => (Object.hasOwn(headers, name) ? headers[name] : undefined),
  keys: (headers) => Object.keys(headers),
};

/** A header that the caller set stays. An empty one, as of a trace without vendor data, is not worth its bytes in each message. */
const setter: TextMapSetter<Record<string, string>> = {
  set(headers, name, value) {
    if (value !== '' && !Object.hasOwn(headers, name)) headers[name] = value;
  },
};

/** Trace and baggage in the headers of messages, written and read by the propagator that was given, or by the registered one. */
export class Propagation {
  readonly #given: TextMapPropagator | undefined;

  constructor(propagator: TextMapPropagator | undefined) {
    this.#given = propagator;
  }

  /** Whether there is a propagator that does something. */
  get isRegistered(): boolean {
    return propagation.fields().length > 0;
  }

  inject(from: Context, headers: Record<string, string>): void {
    if (this.#given) this.#given.inject(from, headers, setter);
    else propagation.inject(from, headers, setter);
  }

  /** The active context with what the headers have. */
  extract(headers: Headers): Context {
    const active = context.active();
    return this.#given ? this.#given.extract(active, headers, getter) : propagation.extract(active, headers, getter);
  }

  /** The span in which the message was created, if its headers name one. */
  creationOf(headers: Headers): SpanContext | undefined {
    const found = trace.getSpanContext(this.extract(headers));
    const isFound = found !== undefined && found !== trace.getSpanContext(context.active());
    return isFound && trace.isSpanContextValid(found) ? found : undefined;
  }

  /** Whether the caller of a send set a header of the propagator itself. */
  isIn(headers: Headers): boolean {
    if (Object.keys(headers).length === 0) return false;
    const fields = this.#given ? this.#given.fields() : propagation.fields();
    return fields.some((name) => Object.hasOwn(headers, name));
  }
}
