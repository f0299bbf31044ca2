import { once } from 'node:events';
import { styleText } from 'node:util';
import Table from 'cli-table3';
import { printable, printableJson } from './printable.js';

type Style = Parameters<typeof styleText>[0];

/**
 * What the tool prints: results to the standard output, everything else to the standard error. Text from outside of the tool
 * is made printable here or, where a line is put together, by the caller with {@link printable}.
 */
export class Output {
  readonly isJson: boolean;

  constructor({ isJson }: { isJson: boolean }) {
    this.isJson = isJson;
  }

  /** Whether a person reads the results at a terminal. */
  get isTerminal(): boolean {
    return process.stdout.isTTY === true;
  }

  /** One line of results, which must be printable. Resolves when it is written or the output accepts more. */
  async line(text: string): Promise<void> {
    await write(process.stdout, `${text}\n`);
  }

  /** Lines on the standard error, also with `--json`. They are made printable. */
  async note(...lines: readonly string[]): Promise<void> {
    await write(process.stderr, `${lines.map(printable).join('\n')}\n`);
  }

  /** A note about something that the results do not show, or that went wrong, in the form of an error. */
  async warn(text: string): Promise<void> {
    await this.note(`nrs: ${text}`);
  }

  /** A value as one line of JSON. */
  async json(value: unknown): Promise<void> {
    await this.line(printableJson(value));
  }

  /**
   * Rows under a head, without a frame, so that other programs can split them. Cells are made printable. Columns are as wide as
   * in {@link PIECE} rows.
   */
  async table(head: readonly string[], rows: ReadonlyArray<ReadonlyArray<string | number | undefined>>): Promise<void> {
    await this.line(this.tableText(head, rows.slice(0, PIECE)));
    for (let from = PIECE; from < rows.length; from += PIECE) {
      await this.line(this.tableText([], rows.slice(from, from + PIECE)));
    }
  }

  tableText(head: readonly string[], rows: ReadonlyArray<ReadonlyArray<string | number | undefined>>): string {
    const table = new Table({
      head: head.map((name) => this.styled('bold', name)),
      chars: { ...NO_FRAME, middle: '  ' },
      style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    });
    for (const cells of rows) table.push(cells.map((cell) => (cell === undefined ? '-' : printable(String(cell)))));
    return table
      .toString()
      .split('\n')
      .map((line) => line.trimEnd())
      .join('\n');
  }

  /** Styled at a terminal with colours, else unchanged. */
  styled(style: Style, text: string): string {
    return this.isTerminal && process.stdout.hasColors() ? styleText(style, text) : text;
  }
}

/** Rows that are laid out at once: the time for a layout grows with their square. */
const PIECE = 1_000;

const NO_FRAME = Object.fromEntries(
  ['top', 'bottom', 'left', 'right', 'mid'].flatMap((side) =>
    ['', '-mid', '-left', '-right'].map((part) => [`${side}${part}`, '']),
  ),
);

async function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  if (!stream.write(text)) await once(stream, 'drain');
}
