import { Injectable } from '@nestjs/common';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';

import { ClientRedisStreams, InjectRedisStreams, RequestTimeoutError } from '../../lib/index.js';
import type { PriceQuery } from './catalog.js';

/** Asks the catalog. A request leaves when its Observable is subscribed to, as with any Nest client. */
@Injectable()
export class Shop {
  constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}

  price(product: string): Promise<number> {
    return firstValueFrom(this.client.send<number, PriceQuery>('price', { product }));
  }

  history(product: string): Promise<number[]> {
    return lastValueFrom(this.client.send<number, PriceQuery>('price-history', { product }).pipe(toArray()));
  }

  /** Waits for `requestTimeout`, then does without. */
  async forecast(product: string): Promise<number | undefined> {
    try {
      return await firstValueFrom(this.client.send<number, PriceQuery>('forecast', { product }));
    } catch (error) {
      if (error instanceof RequestTimeoutError) return undefined;
      throw error;
    }
  }

  /** Nobody serves this pattern, so it fails at once instead of waiting. */
  discount(product: string): Promise<number> {
    return firstValueFrom(this.client.send<number, PriceQuery>('discount', { product }));
  }
}
