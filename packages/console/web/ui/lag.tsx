import type { JSX } from 'preact';

import type { GroupRow } from '../../src/api.js';
import { formatCount, formatSeconds, LEVEL_WORDS, levelOf } from '../data/figures.js';
import type { Level } from '../data/figures.js';

/** A shape for each level, so that it can be told without colours. */
const MARKS: Readonly<Record<Level, JSX.Element>> = {
  done: <circle cx="6" cy="6" r="4" />,
  close: <path d="M6 1.6a4.4 4.4 0 1 0 0 8.8 4.4 4.4 0 0 0 0-8.8zM6 3v6a3 3 0 0 0 0-6z" fill-rule="evenodd" />,
  unknown: <circle cx="6" cy="6" r="3.4" class="open" />,
  paused: <path d="M2.2 1h2.6v10H2.2zM7.2 1h2.6v10H7.2z" />,
  behind: <path d="M6 1.5L11 10.5H1z" />,
  far: <path d="M6 .8L11.2 6 6 11.2.8 6z" />,
};

export function Mark({ level }: { level: Level }): JSX.Element {
  return (
    <svg class={`mark ${level}`} viewBox="0 0 12 12" aria-hidden="true">
      {MARKS[level]}
    </svg>
  );
}

/** The state as a mark and a word. */
export function State({ group }: { group: Pick<GroupRow, 'lag' | 'lagSeconds' | 'isPaused'> }): JSX.Element {
  const level = levelOf(group);
  return (
    <span class={`state ${level}`}>
      <Mark level={level} />
      {LEVEL_WORDS[level]}
    </span>
  );
}

/** Entries and seconds; the seconds alone where the server cannot count the entries. */
export function lagTexts({ lag, lagSeconds }: GroupRow, format: (count: number | null) => string): [string, string] {
  const seconds = lagSeconds ? formatSeconds(lagSeconds) : '';
  return lag === null && seconds ? [seconds, ''] : [format(lag), seconds];
}

/** The figure that a list shows loudest, with its state below. */
export function LagFigure({ group }: { group: GroupRow | undefined }): JSX.Element {
  if (!group) return <span class="lag none">No groups</span>;
  const level = levelOf(group);
  const [loud, quiet] = lagTexts(group, formatCount);
  return (
    <span class={`lag ${level}`}>
      <span class="entries">{loud}</span>
      <span class="below">
        <Mark level={level} />
        {LEVEL_WORDS[level]}
        {quiet && <span> {quiet}</span>}
      </span>
    </span>
  );
}
