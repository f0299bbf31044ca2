import { Logger } from '@nestjs/common';
import { userNameOf } from './user-name.js';

/** Writes who has changed what into the log of the application. */
export class ChangeLog {
  readonly #logger = new Logger('RedisStreamsConsole');

  /**
   * Makes a change, and logs it with its outcome.
   * @param change what was asked for, such as `pause a group`
   * @param details names and numbers; they come from outside and are quoted, so that they cannot look like another line of the log
   */
  async record<T>(request: unknown, change: string, details: object, make: () => Promise<T>): Promise<T> {
    const user = userNameOf(request);
    const who = user === null ? 'an unknown user' : `user ${JSON.stringify(user)}`;
    const what = `${change} ${JSON.stringify(details)}`;
    try {
      const result = await make();
      this.#logger.log(`Done for ${who}: ${what}: ${JSON.stringify(result)}`);
      return result;
    } catch (error) {
      this.#logger.warn(`Failed for ${who}: ${what}: ${JSON.stringify(String(error))}`);
      throw error;
    }
  }
}
