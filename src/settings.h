/*-------------------------------------------------------------------------
 *
 * settings.h
 *		All settings (profimport.*), SPEC.md section 8.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PI_SETTINGS_H
#define PI_SETTINGS_H

#define PI_QUEUE_CLASSIC 0
#define PI_QUEUE_QUORUM 1

#define PI_MAX_WORKERS_LIMIT 64
#define PI_MAX_PREFETCH 65535	/* basic.qos has 16 bits for it */

extern bool pi_enabled;
extern char *pi_database;
extern char *pi_role;
extern int	pi_workers;
extern int	pi_max_workers;
extern char *pi_amqp_url;
extern char *pi_amqp_password_file;
extern char *pi_tls_ca_file;
extern char *pi_tls_cert_file;
extern char *pi_tls_key_file;
extern bool pi_tls_verify;
extern char *pi_import_queue;
extern char *pi_result_queue;
extern int	pi_result_ttl;		/* seconds; 0: none */
extern bool pi_declare_queues;
extern int	pi_queue_type;		/* PI_QUEUE_... */
extern int	pi_batch_size;
extern int	pi_batch_bytes;		/* kB */
extern int	pi_batch_delay;		/* ms */
extern int	pi_prefetch;		/* as set; see pi_effective_prefetch() */
extern int	pi_max_message_size;	/* kB */
extern int	pi_batch_timeout;	/* ms */
extern int	pi_heartbeat;		/* seconds */
extern int	pi_connect_timeout; /* ms */
extern int	pi_reconnect_delay_max; /* ms */
extern int	pi_dedup_window;	/* seconds; 0 off */
extern bool pi_trigger_events;
extern char *pi_trigger_queue;
extern int	pi_trigger_retention;	/* seconds; 0: keep */
extern int	pi_error_retention; /* seconds; 0: keep */
extern char *pi_error_log_file;

/* Defines them all; called once from _PG_init. */
extern void pi_settings_init(void);

/* profimport.prefetch, or twice batch_size, within AMQP's 1..65535. */
extern int	pi_effective_prefetch(void);

/* pi_max_message_size in bytes. */
extern size_t pi_max_message_bytes(void);

/* profimport.workers, as far as profimport.max_workers allows it. */
extern int	pi_configured_workers(void);

/*
 * Takes the next URL from a comma-separated list, advancing *rest; NULL at
 * the end.  palloc'd; white space around it is dropped.
 */
extern char *pi_next_url(const char **rest);

#endif							/* PI_SETTINGS_H */
