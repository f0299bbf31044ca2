import type { JSX } from 'preact';

import { STREAMS_ON_A_PAGE } from '../../src/api.js';
import type { GroupRow, StreamOrder, StreamRow, StreamsUpdate } from '../../src/api.js';
import {
  compareUrgency,
  countOf,
  formatBytes,
  formatCount,
  formatRate,
  formatShortCount,
  LEVEL_WORDS,
  levelOf,
  mostUrgent,
  notedRates,
  noteRates,
} from '../data/figures.js';
import type { Level } from '../data/figures.js';
import { useLive } from '../data/live.js';
import { href, usePlace } from '../data/router.js';
import { Heading } from '../ui/heading.js';
import { LagFigure, lagTexts, Mark, State } from '../ui/lag.js';
import { Empty, FailureBox } from '../ui/notices.js';
import { Sparkline } from '../ui/sparkline.js';
import { Table } from '../ui/table.js';
import type { Column, Order } from '../ui/table.js';

const ORDERS: readonly StreamOrder[] = ['name', 'length', 'memory', 'rate', 'lag', 'lagSeconds', 'deadLetters'];
/** More of a stream are on its own page. */
const CHIPS = 6;

const COLUMNS: ReadonlyArray<Column<StreamRow>> = [
  {
    key: 'name',
    label: 'Stream',
    isSortable: true,
    render: ({ stream, shards }) => (
      <>
        <a class="title" href={href('stream', { stream })}>
          {stream}
        </a>
        {shards > 1 && <span class="tag">{countOf(shards, 'shard')}</span>}
      </>
    ),
  },
  {
    key: 'lag',
    label: 'Lag',
    width: '11rem',
    isFigure: true,
    isSortable: true,
    render: (row) => <LagFigure group={mostUrgent(row)} />,
  },
  {
    key: 'rate',
    label: 'Rate',
    width: '11.5rem',
    isFigure: true,
    isSortable: true,
    render: ({ stream, rate }) => (
      <span class="rate-figure">
        <Sparkline values={notedRates(stream)} />
        <span>{formatRate(rate)}</span>
      </span>
    ),
  },
  {
    key: 'length',
    label: 'Entries',
    width: '8rem',
    isFigure: true,
    isSortable: true,
    render: ({ length }) => formatCount(length),
  },
  {
    key: 'memory',
    label: 'Memory',
    width: '7rem',
    isFigure: true,
    isSortable: true,
    render: ({ memory }) => formatBytes(memory),
  },
  {
    key: 'deadLetters',
    label: 'Dead letters',
    width: '8rem',
    isFigure: true,
    isSortable: true,
    render: ({ stream, deadLetters }) =>
      deadLetters !== 0 ? (
        <a class="dead" href={href('dead-letters', { stream })}>
          {formatCount(deadLetters)}
        </a>
      ) : (
        <span class="faint">0</span>
      ),
  },
];

export function StreamsPage(): JSX.Element {
  const { query } = usePlace();
  const search = query.get('search') ?? '';
  const offset = Math.max(0, Number(query.get('offset')) || 0);
  const sort = ORDERS.find((known) => known === query.get('sort')) ?? 'name';
  const isDescending = query.get('desc') === '1';
  const { data, failure } = useLive({
    page: 'streams',
    sort,
    isDescending,
    ...(search && { search }),
    ...(offset > 0 && { offset }),
  });
  if (data) noteRates(data.rows, data.at);

  const hrefFor = (change: { order?: Order; offset?: number }): string => {
    const order = change.order ?? { key: sort, isDescending };
    return href('streams', {
      search,
      sort: order.key === 'name' ? '' : order.key,
      desc: order.isDescending && '1',
      offset: change.offset,
    });
  };
  return (
    <>
      <Heading title="Streams" aside={<span class="faint">{data && summaryOf(data, search)}</span>} />
      <Attention rows={data?.rows ?? []} />
      {failure && <FailureBox failure={failure} />}
      {data && data.rows.length === 0 ? (
        <NoStreams data={data} search={search} />
      ) : (
        <Table
          caption="Streams"
          class="streams"
          columns={COLUMNS}
          rows={failure && !data ? [] : (data?.rows ?? null)}
          rowKey={({ stream }) => stream}
          below={(row) => <Chips row={row} />}
          order={{ key: sort === 'lagSeconds' ? 'lag' : sort, isDescending }}
          orderHref={(order) => hrefFor({ order })}
          skeletons={8}
        />
      )}
      {data && data.matching > STREAMS_ON_A_PAGE && (
        <Pages offset={offset} total={data.matching} hrefFor={(start) => hrefFor({ offset: start })} />
      )}
    </>
  );
}

function summaryOf({ matching, total, isComplete }: StreamsUpdate, search: string): string {
  const found = search ? `${formatCount(matching)} of ${countOf(total, 'stream')}` : countOf(total, 'stream');
  return isComplete ? found : `${found} so far, still searching`;
}

const URGENT: readonly Level[] = ['far', 'behind', 'paused'];

/** How many groups of this page need a look; its line is always there, so that nothing moves. */
function Attention({ rows }: { rows: readonly StreamRow[] }): JSX.Element {
  const groups = rows.flatMap((row) => row.groups);
  const counts = URGENT.map((level) => [level, groups.filter((group) => levelOf(group) === level).length] as const);
  const shown = counts.filter(([, count]) => count > 0);
  return (
    <p class="attention">
      {shown.map(([level, count]) => (
        <span key={level} class={`state ${level}`}>
          <Mark level={level} />
          {countOf(count, 'group')} {LEVEL_WORDS[level].toLowerCase()}
        </span>
      ))}
      {groups.length > 0 && shown.length === 0 && (
        <span class="state done">
          <Mark level="done" />
          All {countOf(groups.length, 'group')} keep up
        </span>
      )}
    </p>
  );
}

function Chips({ row }: { row: StreamRow }): JSX.Element {
  if (row.failure !== null) return <span class="state far">Not read: {row.failure}</span>;
  if (row.groups.length === 0) return <span class="faint no-groups">No consumer group reads it.</span>;
  const groups = [...row.groups].sort(byName);
  const shown = groups.length > CHIPS ? [...groups].sort(compareUrgency).slice(0, CHIPS - 1) : groups;
  return (
    <ul class="chips" aria-label={`Groups of ${row.stream}`}>
      {shown.map((group) => {
        const [loud, quiet] = lagTexts(group, formatShortCount);
        return (
          <li key={group.name}>
            <a class={`chip ${levelOf(group)}`} href={href('group', { stream: row.stream, group: group.name })}>
              <span class="name">{group.name}</span>
              <State group={group} />
              <span class="figures">
                {loud}
                {quiet && <span class="faint"> {quiet}</span>}
              </span>
            </a>
          </li>
        );
      })}
      {shown.length < groups.length && (
        <li>
          <a class="chip more" href={href('stream', { stream: row.stream })}>
            {countOf(groups.length - shown.length, 'more group')}
          </a>
        </li>
      )}
    </ul>
  );
}

function byName(a: GroupRow, b: GroupRow): number {
  return a.name.localeCompare(b.name);
}

function NoStreams({ data, search }: { data: StreamsUpdate; search: string }): JSX.Element {
  if (!data.isComplete) {
    return (
      <Empty title="Searching the keyspace">
        <p>Nothing was found so far. Streams appear here as soon as they are found.</p>
      </Empty>
    );
  }
  if (search && data.matching === 0 && data.total > 0) {
    return (
      <Empty title={`No stream matches “${search}”`}>
        <p>The search looks for a part of the name.</p>
        <p>
          <a class="button" href={href('streams')}>
            Show all {countOf(data.total, 'stream')}
          </a>
        </p>
      </Empty>
    );
  }
  if (data.total > 0) {
    return (
      <Empty title="This page is empty">
        <p>
          <a class="button" href={href('streams')}>
            Show the first page
          </a>
        </p>
      </Empty>
    );
  }
  return (
    <Empty title="No streams yet">
      <p>
        Emit the first event, or start a service that listens: its streams appear here by themselves. If there are some
        already, look whether the option <code>streams</code> of the console leaves them out, and whether it is
        connected to the right database.
      </p>
    </Empty>
  );
}

interface PagesProps {
  readonly offset: number;
  readonly total: number;
  readonly hrefFor: (offset: number) => string;
}

function Pages({ offset, total, hrefFor }: PagesProps): JSX.Element {
  const last = Math.min(total, offset + STREAMS_ON_A_PAGE);
  return (
    <nav class="pages" aria-label="Pages">
      <span class="faint">
        {formatCount(Math.min(offset + 1, total))} to {formatCount(last)} of {formatCount(total)}
      </span>
      {offset > 0 && (
        <a class="button" href={hrefFor(Math.max(0, offset - STREAMS_ON_A_PAGE))}>
          Previous
        </a>
      )}
      {last < total && (
        <a class="button" href={hrefFor(last)}>
          Next
        </a>
      )}
    </nav>
  );
}
