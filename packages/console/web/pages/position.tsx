import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { Count, GroupMove, GroupMoved, ShardMove } from '../../src/api.js';
import { post, RequestError } from '../data/client.js';
import { countOf, formatCount } from '../data/figures.js';
import { formatDateTime, fromLocalInput, serverNow, toLocalInput } from '../data/time.js';
import { Dialog } from '../ui/dialog.js';
import { FailureBox, tell } from '../ui/notices.js';
import { Table } from '../ui/table.js';

type Target = 'time' | 'beginning' | 'end';

const TARGETS: ReadonlyArray<readonly [Target, string, string]> = [
  ['time', 'A time', 'Messages sent since then are delivered, also those that were handled before.'],
  ['beginning', 'The beginning', 'All messages of the stream are delivered, from the oldest on.'],
  ['end', 'The end', 'Messages that wait now are skipped; the next new message is delivered.'],
];

const HOUR = 3_600_000;

interface PositionProps {
  readonly stream: string;
  readonly group: string;
  readonly onClose: () => void;
}

/** Moves a group after a preview of exactly this move. */
export function PositionDialog({ stream, group, onClose }: PositionProps): JSX.Element {
  const [target, setTarget] = useState<Target>('time');
  const [time, setTime] = useState(() => toLocalInput(serverNow() - HOUR));
  const [preview, setPreview] = useState<GroupMoved | null>(null);
  const [failure, setFailure] = useState<RequestError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const at = fromLocalInput(time);
  const to = target === 'time' ? at : target;

  const send = (dryRun: boolean, then: (moved: GroupMoved) => void): void => {
    if (to === null) return;
    const ends = to === 'end' && !dryRun && preview ? { ends: endsOf(preview) } : {};
    const move: GroupMove = { stream, group, to, ...ends, dryRun };
    setBusy(true);
    setFailure(null);
    post<GroupMoved>('groups/position', move)
      .then(then, (error: unknown) =>
        setFailure(error instanceof RequestError ? error : new RequestError(0, { message: String(error), code: null })),
      )
      .finally(() => setBusy(false));
  };
  const change = (work: () => void): void => {
    setPreview(null);
    work();
  };
  const finish = (moved: GroupMoved): void => {
    const skipped = skippedOf(moved);
    tell(`${group} was moved: ${totalOf(moved)} will be delivered${skipped && `; ${skipped} will be skipped`}.`);
    onClose();
  };
  return (
    <Dialog title={`Set the position of ${group}`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          send(true, setPreview);
        }}
      >
        <div class="body">
          <fieldset class="choices">
            <legend>Continue from</legend>
            {TARGETS.map(([value, label, help]) => (
              <label key={value}>
                <input
                  type="radio"
                  name="target"
                  value={value}
                  checked={target === value}
                  onChange={() => change(() => setTarget(value))}
                />
                <span>
                  <strong>{label}</strong>
                  <span class="second">{help}</span>
                </span>
              </label>
            ))}
          </fieldset>
          {target === 'time' && (
            <label class="field">
              <span>Time, in your zone</span>
              <input
                type="datetime-local"
                step="1"
                required
                value={time}
                onInput={(event) => {
                  const { value } = event.currentTarget;
                  change(() => setTime(value));
                }}
              />
            </label>
          )}
          <div class="preview-of-move" aria-live="polite">
            {preview ? (
              <Moves preview={preview} from={target === 'time' && at !== null ? formatDateTime(at) : `the ${target}`} />
            ) : (
              <p class="faint">The preview counts what would be delivered, and changes nothing.</p>
            )}
            {failure && <FailureBox failure={failure} />}
          </div>
        </div>
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class={`button ${preview ? '' : 'primary'}`} disabled={isBusy || to === null}>
            Preview
          </button>
          <button type="button" class="button danger" disabled={!preview || isBusy} onClick={() => send(false, finish)}>
            Move the group
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Where the shards ended at the preview: messages that were sent since are not skipped. */
function endsOf({ moves }: GroupMoved): Record<string, string> {
  return Object.fromEntries(moves.map(({ key, end }) => [key, end]));
}

function sumOf({ moves }: GroupMoved, countOfMove: (move: ShardMove) => Count): Count {
  const counts = moves.map(countOfMove);
  return { count: counts.reduce((sum, { count }) => sum + count, 0), isMore: counts.some(({ isMore }) => isMore) };
}

function textOf({ count, isMore }: Count, noun: string): string {
  const text = countOf(count, noun);
  return isMore ? `at least ${text}` : text;
}

function figureOf({ count, isMore }: Count): string {
  return `${formatCount(count)}${isMore ? '+' : ''}`;
}

function totalOf(moved: GroupMoved): string {
  return textOf(
    sumOf(moved, ({ messages }) => messages),
    'message',
  );
}

/** Empty where none is skipped. */
function skippedOf(moved: GroupMoved): string {
  const total = sumOf(moved, ({ skipped }) => skipped);
  return total.count === 0 ? '' : `${textOf(total, 'message')} that ${total.count === 1 ? 'waits' : 'wait'}`;
}

function Moves({ preview, from }: { preview: GroupMoved; from: string }): JSX.Element {
  const skipped = skippedOf(preview);
  return (
    <>
      <p class="outcome">
        From {from} on, <strong>{totalOf(preview)}</strong> would be delivered, also those that were handled before.
      </p>
      {skipped && (
        <p class="outcome">
          <strong>{skipped}</strong> would be skipped, and not be handled.
        </p>
      )}
      {preview.moves.length > 1 && (
        <Table
          caption="What would be delivered, by shard"
          columns={[
            { key: 'shard', label: 'Shard', width: '5rem', render: ({ shard }) => shard },
            { key: 'from', label: 'Reads from now', render: ({ from: id }) => <span class="mono">{id}</span> },
            {
              key: 'messages',
              label: 'Delivered',
              width: '7rem',
              isFigure: true,
              render: ({ messages }) => figureOf(messages),
            },
            {
              key: 'skipped',
              label: 'Skipped',
              width: '7rem',
              isFigure: true,
              render: ({ skipped }) => figureOf(skipped),
            },
          ]}
          rows={preview.moves}
          rowKey={({ key }) => key}
        />
      )}
    </>
  );
}
