import { Controller } from '@nestjs/common';
import { Ctx, Payload } from '@nestjs/microservices';

import { RedisStreamsContext, StreamEventPattern } from '../../lib/index.js';

export interface Click {
  readonly page: string;
}

/** Stores many clicks at once, as one INSERT would. */
@Controller()
export class ClicksController {
  readonly batches: number[] = [];
  stored = 0;
  readonly refused: string[] = [];

  /**
   * Called with 100 clicks, or after 50 ms with fewer. When it returns, all clicks that it has not settled itself are
   * acknowledged.
   */
  @StreamEventPattern('clicks', { batch: { size: 100, timeout: 50 } })
  store(@Payload() clicks: Click[], @Ctx() contexts: RedisStreamsContext[]): void {
    this.batches.push(clicks.length);
    clicks.forEach((click, index) => {
      if (click.page.startsWith('/')) {
        this.stored += 1;
      } else {
        // An invalid click must not fail the others.
        this.refused.push(click.page);
        contexts[index]?.deadLetter('not a page');
      }
    });
  }
}
