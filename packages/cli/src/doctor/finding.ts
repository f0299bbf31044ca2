/**
 * `danger`: messages can be lost, or a master does not answer. `warning`: something does not work correctly. `note`: a fact that matters for operation.
 * `ok`: the check found no fault.
 */
export type Level = 'danger' | 'warning' | 'note' | 'ok';

/** The result of a check for one subject. */
export interface Finding {
  readonly level: Level;
  readonly check: string;
  /** A server, a stream or a group. */
  readonly subject: string;
  readonly message: string;
  /** What the operator should do; undefined if nothing. */
  readonly advice?: string;
}
