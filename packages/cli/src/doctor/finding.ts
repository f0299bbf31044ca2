/**
 * `danger`: messages can be lost. `warning`: something does not work as it should. `note`: something to know. `ok`: looked at,
 * and as it should be.
 */
export type Level = 'danger' | 'warning' | 'note' | 'ok';

/** What a check says of one subject. */
export interface Finding {
  readonly level: Level;
  readonly check: string;
  /** A server, a stream or a group. */
  readonly subject: string;
  readonly message: string;
  /** What to do; undefined where nothing is to be done. */
  readonly advice?: string;
}
