import { classifyRedisError } from './redis-error.js';

/** @param loss what does not work without the feature; undefined when there is another way */
type OnMissing = (feature: string, loss?: string) => void;

/**
 * What the servers of one streamer turned out to lack, or not to permit. Every feature counts as present until a command
 * fails without it; the failure is reported once and remembered.
 */
export class ServerFeatures {
  readonly #missing = new Set<string>();
  readonly #onMissing: OnMissing;

  constructor(onMissing: OnMissing = () => undefined) {
    this.#onMissing = onMissing;
  }

  has(feature: string): boolean {
    return !this.#missing.has(feature);
  }

  /** Whether the error means that the feature is missing, which is then remembered. */
  isMissing(feature: string, error: unknown): boolean {
    const kind = classifyRedisError(error);
    if (kind !== 'unsupported' && kind !== 'permission') return false;
    this.forget(feature);
    return true;
  }

  /** Does without the feature from now on. @param loss see {@link OnMissing} */
  forget(feature: string, loss?: string): void {
    if (this.#missing.has(feature)) return;
    this.#missing.add(feature);
    this.#onMissing(feature, loss);
  }
}
