# profimport: built, installed and tested with PGXS
#
#   make deps            install the Debian packages that are missing
#   make && make install the ordinary way into the PostgreSQL that pg_config names
#   make demo            see it work: real servers, real messages; KEEP=1 leaves them up
#   make test            every suite, on servers of its own; TESTS="matching 010_life.pl" picks some
#   make installcheck    the same suites against what is installed, as PostgreSQL's own extensions do (not as root)
#   make valgrind        the SQL tests on a server under valgrind (slow; needs valgrind)
#   make sanitize        the suites under AddressSanitizer, on a PostgreSQL built for it (see t/sanitize)
#   make soak            faults at random under load; MINUTES=n, SEED=s
#   make bench           the numbers; bench/publish makes bench/RESULTS.md of them
#   make lint indent     static checks; core's layout of the C files
#   make deb             Debian package of it; says where it lies
#   make dist            zip for PGXN
#
# PG_CONFIG=/path/to/pg_config names another PostgreSQL, DESTDIR= a root to install into,
# WITH_TLS=no (after "make clean") builds without OpenSSL: amqps:// is then refused.  "make -f DIR/Makefile VPATH=DIR"
# builds outside of the tree.
#
# demo, test, soak and bench need no "make install": they build in a copy of this tree and
# install into a private copy of the PostgreSQL installation (see t/sandbox).

# In front of what lies in the tree, when the build does not.
from = $(if $(VPATH),$(VPATH)/)

EXTENSION = profimport
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(from)profimport.control)
MODULE_big = profimport

WITH_TLS ?= yes
ifeq ($(filter yes no,$(WITH_TLS)),)
$(error WITH_TLS is yes or no)
endif
TLS_OBJ = $(if $(filter yes,$(WITH_TLS)),src/amqp_tls.o,src/amqp_notls.o)
DIGEST_OBJ = $(if $(filter yes,$(WITH_TLS)),src/digest_openssl.o,src/digest_server.o)

# One a line, in alphabetical order; a wildcard would link stray files too.
OBJS = \
	src/amqp.o \
	src/amqp_connect.o \
	src/amqp_header.o \
	src/amqp_io.o \
	src/amqp_publish.o \
	src/amqp_resolve.o \
	src/amqp_rpc.o \
	$(TLS_OBJ) \
	src/amqp_url.o \
	src/apply.o \
	src/backoff.o \
	src/batch.o \
	src/body.o \
	src/broker.o \
	src/check.o \
	src/check_broker.o \
	src/config.o \
	src/consume.o \
	src/convert.o \
	src/crashpoint.o \
	src/datetime.o \
	$(DIGEST_OBJ) \
	src/engine.o \
	src/errlog.o \
	src/events.o \
	src/extension.o \
	src/feed.o \
	src/fields.o \
	src/find.o \
	src/import.o \
	src/import_one.o \
	src/journal.o \
	src/launcher.o \
	src/maintain.o \
	src/match.o \
	src/merge.o \
	src/message.o \
	src/minute.o \
	src/outbox.o \
	src/pack.o \
	src/profile_id.o \
	src/profimport.o \
	src/receive.o \
	src/repeats.o \
	src/result.o \
	src/row.o \
	src/scan.o \
	src/session.o \
	src/settings.o \
	src/shmem.o \
	src/sql.o \
	src/stat.o \
	src/statement.o \
	src/store.o \
	src/subscriptions.o \
	src/textnorm.o \
	src/triggers.o \
	src/upkeep.o \
	src/value.o \
	src/worker.o

# Inputs sql/NAME.sql, answers expected/NAME.out. One a line.
REGRESS = \
	install \
	ahead \
	batch \
	comments \
	config \
	direct_sql \
	dry_run \
	fields \
	functional \
	get_profile \
	hints \
	matching \
	matching_sub \
	message \
	privileges \
	result \
	retry_error \
	settings \
	subscriptions \
	trigger_events \
	views

# specs/NAME.spec, answers expected/NAME.out. One a line.
ISOLATION = \
	race_ahead \
	race_config \
	race_create \
	race_delete \
	race_events \
	race_level \
	race_order \
	race_sub \
	race_unique \
	race_update

TAP_TESTS = 1

# The install script is the topic files of sql/ext in the order of their numbers;
# beside it those of released versions, and how to get from one to the next.
DATA_built = sql/profimport--$(EXTVERSION).sql
DATA = sql/profimport--1.0.0.sql \
	$(patsubst $(from)%,%,$(wildcard $(from)sql/profimport--*--*.sql))
EXT_SQL = $(patsubst $(from)%,%,$(sort $(wildcard $(from)sql/ext/*.sql)))

PGFILEDESC = "profimport - imports customer profiles from RabbitMQ"

# -MMD: a changed header rebuilds what includes it (PGXS does this only if the
# server was configured so; Debian's was not).
PG_CPPFLAGS = -MMD -MP -DPI_VERSION='"$(EXTVERSION)"'
# -Wextra less what PostgreSQL's own headers and idioms set off.
PG_CFLAGS = -Wall -Wextra -Werror=implicit-function-declaration -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
# -Bsymbolic: a function of ours is never replaced by one of the same name in
# the server or in another library; the module's namespace is its own.
SHLIB_LINK = -lrabbitmq $(if $(filter yes,$(WITH_TLS)),-lssl -lcrypto) -Wl,-Bsymbolic

# Bitcode would need clang, and inlining into the JIT gains nothing here.
override with_llvm = no

# Suites bring their own servers, in directories of their own: the TAP step
# removes tmp_check when it starts.
ENCODING = UTF8
NO_LOCALE = 1
SUITE_OPTS = --temp-config=$(srcdir)/t/regress.conf --load-extension=profimport
REGRESS_OPTS = --temp-instance=tmp_check_regress $(SUITE_OPTS)
# pg_isolation_regress is in Debian's postgresql-client-15, with pg_regress.
ISOLATION_OPTS = --temp-instance=tmp_check_iso $(SUITE_OPTS)

EXTRA_CLEAN = src/amqp_tls.[od] src/amqp_notls.[od] src/digest_openssl.[od] src/digest_server.[od] $(OBJS:.o=.d) tmp_check_regress tmp_check_iso t/lib/__pycache__

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

.DEFAULT_GOAL := all

ifneq ($(PGXS),)
include $(PGXS)
# t/regress.conf names one database, so both suites use it.
ISOLATION_TESTDB = contrib_regression
else
# Before "make deps" there may be no PGXS; deps, test and demo work all the same.
all install uninstall installcheck clean:
	@echo "make $@: $(PG_CONFIG) names no PGXS; run \"make deps\" first, or set PG_CONFIG" >&2; exit 1
endif

-include $(wildcard $(OBJS:.o=.d))

# What a build outside of the tree finds no place for otherwise.
$(OBJS): | $(CURDIR)/src
$(CURDIR)/src:
	@mkdir -p $@

# sql/ext itself is a prerequisite so that a file that went away is noticed.
sql/profimport--$(EXTVERSION).sql: $(addprefix $(from),$(EXT_SQL) sql/ext profimport.control)
	@test -n "$(EXT_SQL)" || { echo "no files in sql/ext" >&2; exit 1; }
	@mkdir -p sql
	@echo "$@ from $(words $(EXT_SQL)) files of sql/ext"
	@{ printf '%s\n' '-- Built from sql/ext by the Makefile; edit there.' \
	     '\echo Use "CREATE EXTENSION profimport" to load this file. \quit'; \
	   for f in $(EXT_SQL); do printf '\n-- ---- %s ----\n\n' "$$f"; cat "$(from)$$f" || exit 1; done; \
	 } >$@.tmp && mv $@.tmp $@

.PHONY: deps demo test soak valgrind sanitize bench lint indent deb dist

deps:
	@.ci/deps

SANDBOX = PG_CONFIG='$(PG_CONFIG)' exec t/sandbox

test: deps
	@$(SANDBOX) t/suites $(TESTS)

soak: deps
	@$(SANDBOX) t/soak $(or $(MINUTES),10) $(SEED)

valgrind: deps
	@$(SANDBOX) t/valgrind $(TESTS)

# gcc warns of variables in what it adds itself.
SANITIZE = -g -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -Wno-maybe-uninitialized

sanitize: deps
	@ASAN_OPTIONS=detect_leaks=0 PROFIMPORT_CFLAGS='$(SANITIZE)' $(SANDBOX) t/sanitize $(TESTS)

demo: deps
	@KEEP='$(KEEP)' $(SANDBOX) t/demo

bench: deps
	@test -x bench/run || { echo "there is no bench/run" >&2; exit 1; }
	@$(SANDBOX) --out=bench/results bench/run $(BENCH)

lint:
	@t/lint

# The flags of src/tools/pgindent in PostgreSQL's own tree.
PG_BSD_INDENT ?= pg_bsd_indent
INDENT_FLAGS = -bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 \
	-i4 -l79 -lp -lpl -nip -npro -sac -tpg -ts4

indent:
	@for f in src/*.[ch]; do \
	   cp "$$f" "$$f.orig~" && \
	   $(PG_BSD_INDENT) $(INDENT_FLAGS) -Usrc/typedefs.list "$$f.orig~" "$$f" && \
	   rm "$$f.orig~" || { mv "$$f.orig~" "$$f"; exit 1; }; \
	 done

# A Debian package of this tree, for the PostgreSQL of this Debian; OUT=DIR is where to.
deb:
	@debian/build $(OUT)

# What is committed, as PGXN wants it.
dist:
	git archive --format=zip --prefix=profimport-$(EXTVERSION)/ -o profimport-$(EXTVERSION).zip HEAD
