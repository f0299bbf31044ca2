import { DEAD_LETTER_SUFFIX } from '../../engine/settling/dead-letter.js';
import { SIDE_KEY_PREFIX } from '../../redis/commands/side-key.js';
import type { Wildcard } from '../wildcard.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';
import type { RuntimeControl } from './runtime-control.js';

export interface WildcardOwnersOptions {
  readonly groups: readonly HandlerGroup[];
  readonly control: Pick<RuntimeControl, 'addedTo'>;
  readonly replyPrefix: string;
}

type WildcardBinding = HandlerBinding & { readonly wildcard: Wildcard };

/**
 * Which pattern reads a stream that wildcards match. A stream is read for one pattern of the group only, because two consumers
 * of a group would divide its messages: for its own pattern, and otherwise for the most specific wildcard. Handlers in real-time
 * mode are counted by themselves.
 *
 * Streams that this package writes itself, as those of dead letters, belong to none: a failing handler would feed on its own
 * dead letters.
 */
export class WildcardOwners {
  readonly #bindings: readonly HandlerBinding[];
  readonly #wildcards: readonly WildcardBinding[];
  readonly #deadLetters: ReadonlySet<string>;
  readonly #control: Pick<RuntimeControl, 'addedTo'>;
  readonly #replyPrefix: string;

  constructor({ groups, control, replyPrefix }: WildcardOwnersOptions) {
    this.#bindings = groups.flatMap((group) => [...group.bindings.values()]);
    const wildcards = this.#bindings.filter((binding): binding is WildcardBinding => binding.wildcard !== undefined);
    this.#wildcards = wildcards.sort((one, other) => one.wildcard.compare(other.wildcard));
    this.#deadLetters = new Set(this.#bindings.flatMap(deadLetterStreamOf));
    this.#control = control;
    this.#replyPrefix = replyPrefix;
  }

  /** The binding that reads the stream as one of many; undefined when none does. */
  ownerOf(streamKey: string, isRealTime: boolean): HandlerBinding | undefined {
    if (this.#isOwn(streamKey)) return undefined;
    const isOfMode = ({ mode }: HandlerBinding): boolean => (mode === 'real-time') === isRealTime;
    if (this.#bindings.some((binding) => isOfMode(binding) && this.#names(binding, streamKey))) return undefined;
    return this.#wildcards.find((binding) => isOfMode(binding) && binding.wildcard.matches(streamKey));
  }

  #names(binding: HandlerBinding, streamKey: string): boolean {
    const isNamed = binding.wildcard === undefined && binding.streamKey === streamKey;
    return isNamed || this.#control.addedTo(binding.pattern).includes(streamKey);
  }

  #isOwn(streamKey: string): boolean {
    return (
      streamKey.endsWith(DEAD_LETTER_SUFFIX) ||
      streamKey.startsWith(this.#replyPrefix) ||
      streamKey.startsWith(SIDE_KEY_PREFIX) ||
      this.#deadLetters.has(streamKey)
    );
  }
}

function deadLetterStreamOf({ failurePolicy: { deadLetter } }: HandlerBinding): string[] {
  return deadLetter === false || deadLetter.stream === undefined ? [] : [deadLetter.stream];
}
