import type { StreamMessage } from 'nestjs-redis-streams';
import { MESSAGES_SEARCHED } from '../api.js';
import { sizeOf } from './entries.js';

/** Of the entries that one request looks at; the next one continues the search. */
const BYTES_SEARCHED = 32 * 1024 * 1024;

/** How much one request has looked at. */
export class SearchExtent {
  #searched = 0;
  #bytes = 0;

  /** Entries. */
  get searched(): number {
    return this.#searched;
  }

  get isReached(): boolean {
    return this.#searched === MESSAGES_SEARCHED || this.#bytes > BYTES_SEARCHED;
  }

  note(message: StreamMessage): void {
    this.#searched += 1;
    this.#bytes += sizeOf(message);
  }
}
