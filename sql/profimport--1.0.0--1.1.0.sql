-- From 1.0.0 to 1.1.0. Whoever changes sql/ext adds the same change here; t/180_upgrade.pl compares.
\echo Use "ALTER EXTENSION profimport UPDATE TO '1.1.0'" to load this file. \quit
