import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { PENDING_SHOWN } from '../../src/api.js';
import type { ConsumerRow, GroupChange, GroupUpdate, OwnerRow, PendingRow } from '../../src/api.js';
import { post, RequestError, session } from '../data/client.js';
import { countOf, formatCount, formatSeconds, levelOf, UNKNOWN } from '../data/figures.js';
import { useLive } from '../data/live.js';
import { href } from '../data/router.js';
import { useStore } from '../data/store.js';
import { formatDuration, timeOfId } from '../data/time.js';
import { LagChart } from '../ui/chart.js';
import { CopyButton } from '../ui/copy.js';
import { Heading } from '../ui/heading.js';
import { Icon } from '../ui/icon.js';
import { State } from '../ui/lag.js';
import { Empty, FailureBox, tell } from '../ui/notices.js';
import { Table } from '../ui/table.js';
import type { Column } from '../ui/table.js';
import { Age } from '../ui/time.js';
import { PositionDialog } from './position.js';

export function GroupPage({ stream, group: name }: { stream: string; group: string }): JSX.Element {
  const { data, failure } = useLive({ page: 'group', stream, group: name });
  const [isMoving, setMoving] = useState(false);
  const isReadOnly = useStore(session)?.readOnly ?? true;
  const group = data?.group ?? null;
  return (
    <>
      <Heading
        title={name}
        crumbs={[
          { label: 'Streams', href: href('streams') },
          { label: stream, href: href('stream', { stream }) },
        ]}
        aside={
          <>
            <CopyButton text={name} of="the name" />
            {group && <State group={group} />}
          </>
        }
      >
        {group && !isReadOnly && (
          <>
            <button type="button" class="button" onClick={() => setMoving(true)}>
              <Icon name="clock" />
              Set position…
            </button>
            <PauseButton change={{ stream, group: name }} isPaused={group.isPaused === true} />
          </>
        )}
      </Heading>
      {failure && <FailureBox failure={failure} />}
      {data && !group ? <NoGroup stream={stream} group={name} /> : <GroupBody stream={stream} data={data} />}
      {isMoving && <PositionDialog stream={stream} group={name} onClose={() => setMoving(false)} />}
    </>
  );
}

function NoGroup({ stream, group }: { stream: string; group: string }): JSX.Element {
  return (
    <Empty title="There is no such group">
      <p>
        No group called <code>{group}</code> reads <code>{stream}</code>. It appears here by itself when a service with
        this group listens.
      </p>
      <p>
        <a class="button" href={href('stream', { stream })}>
          Show the groups of {stream}
        </a>
      </p>
    </Empty>
  );
}

function PauseButton({ change, isPaused }: { change: GroupChange; isPaused: boolean }): JSX.Element {
  const [isBusy, setBusy] = useState(false);
  const toggle = (): void => {
    setBusy(true);
    post(`groups/${isPaused ? 'resume' : 'pause'}`, change)
      .then(
        () => tell(isPaused ? `${change.group} reads again.` : `${change.group} is paused, in all of its processes.`),
        (error: unknown) => tell(error instanceof RequestError ? error.message : String(error), true),
      )
      .finally(() => setBusy(false));
  };
  return (
    <button
      type="button"
      class={`button ${isPaused ? 'primary' : ''}`}
      aria-disabled={isBusy}
      onClick={isBusy ? undefined : toggle}
    >
      <Icon name={isPaused ? 'play' : 'pause'} />
      {isPaused ? 'Resume' : 'Pause'}
    </button>
  );
}

function GroupBody({ stream, data }: { stream: string; data: GroupUpdate | null }): JSX.Element {
  const group = data?.group ?? null;
  const oldest = data?.pending.find((row) => !isPutBack(row));
  return (
    <>
      <dl class={`facts big ${group ? levelOf(group) : ''}`}>
        <div class="lag">
          <dt>Lag</dt>
          <dd>{formatCount(group?.lag ?? null)}</dd>
        </div>
        <div class="lag">
          <dt>Oldest waits</dt>
          <dd>{formatSeconds(group?.lagSeconds ?? null)}</dd>
        </div>
        <div>
          <dt>Pending</dt>
          <dd>{formatCount(group?.pending ?? null)}</dd>
        </div>
        <div>
          <dt>Oldest pending</dt>
          <dd>{oldest ? formatDuration(oldest.idle) : UNKNOWN}</dd>
        </div>
        <div>
          <dt>Consumers</dt>
          <dd>{formatCount(group?.consumers ?? null)}</dd>
        </div>
      </dl>
      <LagChart history={data?.history ?? []} />
      <Consumers rows={data?.consumers ?? null} />
      {data && data.owners.length > 0 && <Owners rows={data.owners} />}
      <Pending stream={stream} rows={data?.pending ?? null} total={group?.pending ?? 0} />
      <Positions data={data} />
    </>
  );
}

function Consumers({ rows }: { rows: readonly ConsumerRow[] | null }): JSX.Element {
  const columns: ReadonlyArray<Column<ConsumerRow>> = [
    { key: 'name', label: 'Consumer', render: ({ name }) => <span class="title">{name}</span> },
    { key: 'pending', label: 'Pending', width: '8rem', isFigure: true, render: ({ pending }) => formatCount(pending) },
    {
      key: 'idle',
      label: 'Last asked',
      width: '10rem',
      isFigure: true,
      render: ({ idle }) => `${formatDuration(idle)} ago`,
    },
    {
      key: 'inactive',
      label: 'Last received',
      width: '10rem',
      isFigure: true,
      render: ({ inactive }) =>
        inactive === null ? (
          <span title="Unknown before Redis 7.2.">{UNKNOWN}</span>
        ) : (
          `${formatDuration(inactive)} ago`
        ),
    },
  ];
  return (
    <section aria-labelledby="consumers-title">
      <h2 id="consumers-title">Consumers</h2>
      {rows?.length === 0 ? (
        <p class="note outside">No consumer has read in this group. Start a service with this group.</p>
      ) : (
        <Table caption="Consumers" columns={columns} rows={rows} rowKey={({ name }) => name} skeletons={2} />
      )}
    </section>
  );
}

function Owners({ rows }: { rows: readonly OwnerRow[] }): JSX.Element {
  const columns: ReadonlyArray<Column<OwnerRow>> = [
    { key: 'shard', label: 'Shard', width: '6rem', render: ({ shard }) => shard },
    { key: 'owner', label: 'Owner', render: ({ owner }) => owner ?? <span class="state behind">No owner</span> },
    {
      key: 'generation',
      label: 'Generation',
      width: '10rem',
      isFigure: true,
      render: ({ generation }) => generation ?? UNKNOWN,
    },
    {
      key: 'expires',
      label: 'Lease ends',
      width: '10rem',
      isFigure: true,
      render: ({ expiresIn }) => (expiresIn === null ? UNKNOWN : `in ${formatDuration(expiresIn)}`),
    },
  ];
  return (
    <section aria-labelledby="owners-title">
      <h2 id="owners-title">Owners of shards</h2>
      <Table caption="Owners of shards" columns={columns} rows={rows} rowKey={({ shard }) => `${shard}`} />
    </section>
  );
}

interface PendingProps {
  readonly stream: string;
  readonly rows: readonly PendingRow[] | null;
  readonly total: number;
}

function Pending({ stream, rows, total }: PendingProps): JSX.Element {
  const columns: ReadonlyArray<Column<PendingRow>> = [
    {
      key: 'id',
      label: 'Message',
      width: '14rem',
      render: ({ id, shard }) => (
        <a class="title mono" href={href('message', { stream, id, shard })}>
          {id}
        </a>
      ),
    },
    { key: 'consumer', label: 'Consumer', render: ({ consumer }) => consumer },
    { key: 'shard', label: 'Shard', width: '5rem', isFigure: true, render: ({ shard }) => shard },
    { key: 'idle', label: 'Idle', width: '8rem', isFigure: true, render: (row) => <Idle row={row} /> },
    {
      key: 'deliveries',
      label: 'Deliveries',
      width: '7rem',
      isFigure: true,
      render: ({ deliveries }) => formatCount(deliveries),
    },
  ];
  return (
    <section aria-labelledby="pending-title">
      <h2 id="pending-title">Pending</h2>
      {rows?.length === 0 ? (
        <p class="note outside">Nothing is pending: all delivered messages are acknowledged.</p>
      ) : (
        <Table
          caption="Pending entries"
          columns={columns}
          rows={rows}
          rowKey={({ id, shard }) => `${shard} ${id}`}
          skeletons={3}
        />
      )}
      {rows && total > rows.length && rows.length >= PENDING_SHOWN && (
        <p class="note outside">
          The {formatCount(rows.length)} that wait longest, of {formatCount(total)}.
        </p>
      )}
    </section>
  );
}

/** By a redrive, or by a consumer that stopped. Its idle time only makes a consumer claim it at the next scan. */
function isPutBack({ deliveries }: PendingRow): boolean {
  return deliveries === 0;
}

function Idle({ row }: { row: PendingRow }): JSX.Element {
  if (!isPutBack(row)) return <>{formatDuration(row.idle)}</>;
  return (
    <span title="A redrive or a consumer that stopped has put the message back. A consumer claims it at its next scan.">
      put back
    </span>
  );
}

function Positions({ data }: { data: GroupUpdate | null }): JSX.Element | null {
  if (!data || data.positions.length === 0) return null;
  return (
    <section aria-labelledby="positions-title">
      <h2 id="positions-title">Position</h2>
      <Table
        caption={`Where it reads in ${countOf(data.positions.length, 'shard')}`}
        columns={[
          { key: 'shard', label: 'Shard', width: '6rem', render: ({ shard }) => shard },
          {
            key: 'id',
            label: 'Last delivered',
            render: ({ lastDeliveredId }) => <span class="mono">{lastDeliveredId}</span>,
          },
          {
            key: 'age',
            label: 'Sent',
            width: '10rem',
            isFigure: true,
            render: ({ lastDeliveredId }) =>
              timeOfId(lastDeliveredId) === 0 ? 'nothing delivered' : <Age at={timeOfId(lastDeliveredId)} />,
          },
        ]}
        rows={data.positions}
        rowKey={({ shard }) => `${shard}`}
      />
    </section>
  );
}
