// For StatsD (npm statsd 0.9): node stats.js statsd.js
{
  address: "127.0.0.1",
  port: 8125,
  mgmt_address: "127.0.0.1",
  mgmt_port: 8126,
  graphiteHost: "127.0.0.1",
  graphitePort: 2003,
  backends: ["./backends/graphite"],
  graphite: { legacyNamespace: false },

  flushInterval: 10000, // the first interval in storage-schemas.conf
  percentThreshold: [95, 99],

  // A gauge that nobody has sent for three intervals ends: otherwise a dead publisher would look alive.
  deleteGauges: true,
  gaugesMaxTTL: 3
}
