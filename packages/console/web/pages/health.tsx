import type { JSX } from 'preact';

import type { HealthPart, LoopRow } from '../../src/api.js';
import { countOf, formatCount, UNKNOWN } from '../data/figures.js';
import { useLive } from '../data/live.js';
import { formatDuration } from '../data/time.js';
import { Heading } from '../ui/heading.js';
import { Mark } from '../ui/lag.js';
import { Empty, FailureBox } from '../ui/notices.js';
import { Table } from '../ui/table.js';
import type { Column } from '../ui/table.js';

export function HealthPage(): JSX.Element {
  const { data, failure } = useLive({ page: 'health' });
  return (
    <>
      <Heading title="Health" aside={data && <Healthy isHealthy={data.isHealthy} />} />
      <p class="lead">The connections and loops of the process that serves this console.</p>
      {failure && <FailureBox failure={failure} />}
      {data?.parts.length === 0 && (
        <Empty title="Nothing runs in this process">
          <p>
            The console runs on its own here. Mount it in an application with <code>RedisStreamsModule</code> or{' '}
            <code>ServerRedisStreams</code> to see its loops.
          </p>
        </Empty>
      )}
      {data
        ? data.parts.map((part) => <Part key={part.name} part={part} />)
        : !failure && <div class="panel loading tall" />}
    </>
  );
}

function Healthy({ isHealthy }: { isHealthy: boolean }): JSX.Element {
  return (
    <span class={`state ${isHealthy ? 'done' : 'far'}`}>
      <Mark level={isHealthy ? 'done' : 'far'} />
      {isHealthy ? 'Healthy' : 'Unhealthy'}
    </span>
  );
}

const COLUMNS: ReadonlyArray<Column<LoopRow>> = [
  {
    key: 'streams',
    label: 'Streams',
    render: ({ streams, problem }) => (
      <>
        <span class="title">{streams.join(', ')}</span>
        {problem && <span class="second bad">{problem}</span>}
      </>
    ),
  },
  { key: 'state', label: 'State', width: '8rem', render: ({ isHealthy }) => <Healthy isHealthy={isHealthy} /> },
  {
    key: 'group',
    label: 'Group and consumer',
    width: '14rem',
    render: ({ group, consumer, mode }) => (
      <>
        <span>{group ?? mode}</span>
        {consumer && <span class="second">{consumer}</span>}
      </>
    ),
  },
  { key: 'lag', label: 'Lag', width: '6rem', isFigure: true, render: ({ lag }) => formatCount(lag) },
  { key: 'pending', label: 'Pending', width: '6rem', isFigure: true, render: ({ pending }) => formatCount(pending) },
  {
    key: 'buffered',
    label: 'Buffered',
    width: '6rem',
    isFigure: true,
    render: ({ buffered }) => formatCount(buffered),
  },
  { key: 'flight', label: 'In flight', width: '6rem', isFigure: true, render: ({ inFlight }) => formatCount(inFlight) },
  {
    key: 'handler',
    label: 'Oldest handler',
    width: '8.5rem',
    isFigure: true,
    render: ({ oldestHandler }) => (oldestHandler === null ? UNKNOWN : formatDuration(oldestHandler)),
  },
];

function Part({ part }: { part: HealthPart }): JSX.Element {
  const id = `part-${part.name}`;
  return (
    <section aria-labelledby={id}>
      <div class="part">
        <h2 id={id}>{part.name}</h2>
        <Healthy isHealthy={part.isHealthy} />
        <span class="faint">
          {part.status}, {countOf(part.reconnects, 'reconnect')}
        </span>
      </div>
      {part.loops.length === 0 ? (
        <p class="note outside">It sends only: no loop reads.</p>
      ) : (
        <Table
          caption={`Loops of ${part.name}`}
          class="loops"
          columns={COLUMNS}
          rows={part.loops}
          rowKey={({ streams, group, mode, consumer }) => JSON.stringify([streams, group, mode, consumer])}
        />
      )}
    </section>
  );
}
