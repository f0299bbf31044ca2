import { withResolvers } from '../../../shared/deferred.js';
import type { Deferred } from '../../../shared/deferred.js';

/** One pass of a read loop. When it stalls it is given up: the loop goes on with the next, whatever becomes of it. */
export class ReadRound {
  readonly over = withResolvers<{ failed: boolean }>();
  isGivenUp = false;
  /** Settled when the duties and the read are over; undefined before and after. */
  work: Deferred<void> | undefined;
  isReading = false;

  giveUp(): void {
    this.isGivenUp = true;
    this.work?.resolve();
    this.over.resolve({ failed: true });
  }
}
