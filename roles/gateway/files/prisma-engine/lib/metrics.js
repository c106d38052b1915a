'use strict';

/**
 * The state of the connection pool under the names that Prisma's engine gives its gauges. Its counters and histograms
 * are not kept: LiteLLM reads none of them.
 */

const GAUGES = [
  ['prisma_pool_connections_open', 'open', 'Number of currently open pool connections'],
  ['prisma_pool_connections_busy', 'busy', 'Number of pool connections in use by datasource queries'],
  ['prisma_pool_connections_idle', 'idle', 'Number of pool connections that are not in use'],
  ['prisma_client_queries_wait', 'waiting', 'Number of datasource queries waiting for a free connection'],
];

/**
 * @param {{open: number, busy: number, idle: number, waiting: number}} state of the pool
 * @param {string | null} format `json` or `prometheus`
 */
function metrics(state, format) {
  if (format === 'prometheus') {
    return GAUGES.map(
      ([name, key, help]) => `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${name} ${state[key]}\n`,
    ).join('\n');
  }
  const gauges = GAUGES.map(([key, name, description]) => ({ key, labels: {}, value: state[name], description }));
  return { counters: [], gauges, histograms: [] };
}

module.exports = { metrics };
